"""`make bench` on tiny inputs: what it says of a system is what the system did."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.speed import __main__ as command
from benchmarks.speed import correctness, inputs, pages
from benchmarks.speed.campaign import Campaign
from benchmarks.speed.chart import draw
from benchmarks.speed.environments import HOME
from benchmarks.speed.job import Job
from benchmarks.speed.loops import decompression
from benchmarks.speed.measurement import MeasurementError, measure
from benchmarks.speed.steps import Settings, Step, _job
from benchmarks.speed.summary import rows_of
from benchmarks.speed.systems import SYSTEMS, System
from benchmarks.speed.table import markdown, show
from benchmarks.speed.workloads import LENGTH, Inputs, Workload, workloads

EVENTS = 400
SMALL = Workload(
    "tree", "tiny", Inputs("paper", 2, EVENTS), ("event_id", "flat1"), {"g0": ("g0_0", "g0_1")}
)
ROOT_PYTHON = os.environ.get("ROOT_PYTHON") or next(
    (str(path) for path in [HOME / ".venv-root/bin/python"] if path.exists()), ""
)


def columns(number: int, events: int = EVENTS) -> dict[str, Any]:
    """What the generator would write: ids, a flat branch, two jagged ones that share counts."""
    random = np.random.default_rng(number)
    counts = random.poisson(5, events)
    values = {f"g0_{i}": random.exponential(size=counts.sum()) for i in range(2)}
    return {
        "event_id": np.arange(number * events, (number + 1) * events, dtype=np.float32),
        "flat1": random.normal(size=events).astype(np.float32),
    } | {name: ak.unflatten(found.astype(np.float32), counts) for name, found in values.items()}


def write(path: Path, number: int, format_: str = "TTree", compression: Any = None) -> Path:
    """By uproot."""
    arrays = columns(number)
    with uproot.recreate(path, compression=compression or uproot.ZSTD(5)) as file:
        if format_ == "RNTuple":
            file["Events"] = arrays
        else:
            types = dict.fromkeys(SMALL.flat, "float32")
            file.mktree("Events", types | dict.fromkeys(SMALL.groups["g0"], "var * float32"))
            file["Events"].extend(arrays)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the inputs of SMALL are made already."""
    folder = tmp_path_factory.mktemp("bench")
    paths = inputs.paths_of(SMALL.inputs, folder)
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        write(path, number)
    note = {"sizes": [path.stat().st_size for path in paths]}
    (paths[0].parent / "inputs.json").write_text(json.dumps(note))
    return folder


def chosen(*keys: str) -> list[System]:
    return [system for system in SYSTEMS if system.key in keys]


def campaign(folder: Path, systems: list[System], said: list[str], **more: Any) -> Campaign:
    settings = Settings(repeat=1, epochs=2)
    pythons = {"weaver": "/nowhere/python", "root": "/nowhere/python"}
    return Campaign(folder, [SMALL], systems, settings, pythons, said.append, **more)


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    """What two of the systems did, and one that cannot run."""
    pytest.importorskip("torch")
    systems = chosen("torch-0", "weaver-0", "by-hand", "decompression-2", "specs-1")
    return campaign(folder, systems, []).run() | {"base": "by-hand"}


def test_systems_are_measured_and_compared(document: dict[str, Any]) -> None:
    rows = {row.system: row for row in rows_of(document, "tree")}
    for key in ("torch-0", "by-hand"):
        row = rows[key]
        assert row.check is not None
        assert row.check["equal"] == row.check["sample"] == 2 * EVENTS
        assert not row.check["lost"] + row.check["extra"]
        assert row.first is not None
        assert row.later is not None
        assert row.own is not None
        assert row.resident is not None
        assert 2**24 < row.own <= row.resident  # Python and what it imported
        assert row.complete
    assert rows["by-hand"].ratio is not None
    assert rows["by-hand"].ratio.median == 1
    measured = [run for run in document["runs"] if "epochs" in run]
    assert all(epoch["events"] == 2 * EVENTS for run in measured for epoch in run["epochs"])
    assert {"torch", "uproot"} <= set(measured[0]["versions"])
    assert all(run["cpu_seconds"] > 0 for run in measured)
    assert rows["specs-1"].ratio is None  # a pass is no epoch


def test_a_rival_that_is_not_there_is_in_the_table_with_the_reason(
    document: dict[str, Any],
) -> None:
    (row,) = [row for row in rows_of(document, "tree") if row.system == "weaver-0"]
    assert row.failure is not None
    assert "/nowhere/python" in row.failure
    assert "weaver-core, in process did not run: " in markdown(document, "tree")


def test_a_run_that_was_stopped_goes_on(
    folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = chosen("torch-0", "by-hand", "decompression-2", "specs-1")
    said: list[str] = []
    monkeypatch.setattr("benchmarks.speed.steps.measure", pytest.fail)  # nothing is left
    again = campaign(folder, systems, said).run()
    assert said == ["6 of 6 measurements are there already"]
    kept = [run for run in document["runs"] if run["system"] != "weaver-0"]
    assert again["runs"] == kept
    more = campaign(folder, systems, said)
    monkeypatch.setattr("benchmarks.speed.campaign.code", lambda: "other code")
    assert not more._kept()


def test_tables_and_picture_come_from_the_json(document: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(document))
    read = json.loads(path.read_text())
    output = io.StringIO()
    show(read, Console(width=140, file=output))
    text = output.getvalue()
    for part in ("ours, PyTorch, in process", "800 of 800", "later epochs", "uproot 5."):
        assert part in text
    assert f"{rows_of(document, 'tree')[0].later.median:,.0f}" in text  # type: ignore[union-attr]
    draw(read, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    result = CliRunner().invoke(command.app, ["show", str(path)])
    assert result.exit_code == 0, result.output
    assert "bare decompression, 2 threads" in result.output


Change = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: rows, {"equal": 800}),
        (lambda rows: rows[::-1], {"equal": 800}),
        (lambda rows: _with(rows, (5, 3), np.nextafter(rows[5, 3], np.float32(9))),
         {"equal": 799, "different": 1}),
        (lambda rows: _with(rows, (slice(0, 2), 1), rows[1::-1, 1]),
         {"equal": 798, "different": 2}),  # of another event
        (lambda rows: _with(rows, (7, -1), 1.0), {"equal": 799, "different": 1}),  # in the padding
        (lambda rows: rows[:-3], {"equal": 797, "missing": 3, "lost": 3}),
        (lambda rows: np.concatenate([rows, rows[:2]]),
         {"equal": 798, "repeated": 2, "extra": 2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("affine", [(0.0, 1.0), (0.5, 2.0)])
def test_wrong_rows_are_found(
    folder: Path, change: Change, expected: dict[str, int], affine: tuple[float, float]
) -> None:
    known = correctness.truth(SMALL, inputs.paths_of(SMALL.inputs, folder))
    known.rows[7, -1], known.present[7, -1] = 0, False
    center, scale = affine
    rows = ((known.rows.astype(np.float64) - center) / scale).astype(np.float32)
    rows[~known.present] = 0
    rows = change(rows)
    counts = {"events": len(rows), "distinct": len(np.unique(rows[:, 0]))}
    found = correctness.compare(known, rows, affine, SMALL.events, counts)
    nothing = dict.fromkeys(("different", "missing", "repeated", "lost", "extra"), 0)
    assert found == nothing | {"sample": 800} | expected
    run = {"system": "torch-0", "check": found}
    wrong = command._wrong({"systems": [{"key": "torch-0", "kind": "ours"}], "runs": [run]})
    assert wrong == (found["equal"] < 800)


def _with(rows: np.ndarray, place: Any, value: Any) -> np.ndarray:
    rows = rows.copy()
    rows[place] = value
    return rows


def test_the_truth_is_what_the_files_hold(folder: Path) -> None:
    known = correctness.truth(SMALL, inputs.paths_of(SMALL.inputs, folder))
    assert known.rows.shape == (2 * EVENTS, SMALL.columns) == known.present.shape
    wanted = columns(1)
    row = known.rows[EVENTS + 17]
    assert row[0] == EVENTS + 17
    assert row[1] == wanted["flat1"][17]
    values = wanted["g0_1"][17].to_list()[:LENGTH]
    assert row[2 + LENGTH :].tolist() == values + [0.0] * (LENGTH - len(values))
    assert known.present[EVENTS + 17].sum() == 2 + 2 * len(values)


COMPRESSIONS = {
    "none": uproot.ZLIB(0), "ZSTD": uproot.ZSTD(5), "LZ4": uproot.LZ4(4), "ZLIB": uproot.ZLIB(1),
    "LZMA": uproot.LZMA(2),
}  # fmt: skip


@pytest.mark.parametrize("format_", ["TTree", "RNTuple"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_bare_decompression_takes_every_byte(
    tmp_path: Path, format_: str, compression: str
) -> None:
    path = write(tmp_path / "a.root", 0, format_, COMPRESSIONS[compression])
    job = Job("decompression", (str(path),), SMALL.flat, SMALL.groups, LENGTH, 8, 1,
              options={"threads": 2})  # fmt: skip
    assert list(decompression.source(job).epoch()) == [EVENTS]
    entries, branches = decompression._spans(str(path), job)
    with uproot.open(path)["Events"] as tree:
        arrays = tree.arrays(list(job.branches))
    size = sum(int(ak.count(arrays[name])) * 4 for name in job.branches)
    assert entries == EVENTS
    assert sum(length for spans in branches for *_, length in spans) >= size  # and offsets


def test_processes_that_fail_or_hang_say_so(tmp_path: Path) -> None:
    job = Job("no_such_system", (), ("event_id",), {}, LENGTH, 8, 1)
    environment = {"PYTHONPATH": str(HOME)}
    with pytest.raises(MeasurementError, match=r"exit code 1: .*no_such_system"):
        measure(job, sys.executable, environment, 60)
    with pytest.raises(MeasurementError, match="stopped after 0 s"):
        measure(replace(job, system="by_hand"), sys.executable, environment, 0.05)


def test_inputs_are_whole_or_made_anew(tmp_path: Path) -> None:
    said: list[str] = []
    wide = Inputs("wide", 1, 500, "RNTuple", cluster=200)
    (path,) = inputs.make(wide, tmp_path, None, said.append)
    with uproot.open(path)["Events"] as ntuple:
        assert ntuple.num_entries == 500
        assert [int(one.num_entries) for one in ntuple.cluster_summaries] == [200, 200, 100]
        assert ntuple["event_id"].array().to_list() == list(range(500))
    assert len(said) == 1
    assert inputs.make(wide, tmp_path, None, said.append) == [path]
    assert len(said) == 1  # kept
    path.write_bytes(path.read_bytes()[:-1])
    assert not inputs.made(wide, tmp_path)
    assert inputs.paths_of(replace(wide, events=501), tmp_path) != [path]
    with pytest.raises(inputs.InputsError, match="real ROOT"):
        inputs.make(SMALL.inputs, tmp_path, None, said.append)
    with pytest.raises(inputs.InputsError, match="--files 2 --events 400"):
        inputs.make(SMALL.inputs, tmp_path, sys.executable, said.append)  # has no ROOT
    assert not inputs.made(SMALL.inputs, tmp_path)


def test_every_system_has_a_workload_and_every_workload_a_base() -> None:
    known = {workload.key for workload in workloads()}
    for system in SYSTEMS:
        assert set(system.workloads) <= known
        assert (HOME / "benchmarks/speed/loops" / f"{system.module}.py").exists()
    (base,) = chosen("root")
    assert set(base.workloads) == known
    assert len({system.key for system in SYSTEMS} | known) == len(SYSTEMS) + len(known)
    result = CliRunner().invoke(command.app, ["run", "--only", "nothing"])
    assert result.exit_code == 2


def test_a_variant_of_ours_is_one_entry(tmp_path: Path) -> None:
    reading = {"reading": {"open_files": 8, "cache": "{scratch}/cache"}}
    options = {"num_workers": 0, "dataset": reading}
    system = System("own", "own", "ours", "ours_torch", options=options, files=1)
    step = Step(replace(SMALL, memory=7), system, 2)
    job = _job(step, [tmp_path / "a.root"], str(tmp_path), epochs=3)
    assert job.options["dataset"]["reading"] == {
        "memory": 7, "open_files": 8, "cache": f"{tmp_path}/cache",
    }  # fmt: skip
    assert (step.read.events, step.workload.events, job.seed) == (EVENTS, 2 * EVENTS, 3)
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_the_pages_say_what_the_json_says(page: Path, document: dict[str, Any]) -> None:
    """Make them anew with: python -m benchmarks.speed publish"""
    assert pages.filled(page, pages.published()) == page.read_text()
    assert pages.RESULTS.exists() == pages.CHART.exists()
    other = pages.filled(page, document)
    assert "benchmark.png" in other
    assert f"{rows_of(document, 'tree')[0].later.median:,.0f}" in other  # type: ignore[union-attr]


@pytest.mark.skipif(not ROOT_PYTHON, reason="no Python with real ROOT: set ROOT_PYTHON")
def test_real_root_beside_ours(tmp_path: Path) -> None:
    arguments = ["run", "--quick", "--repeat", "1", "--epochs", "2", "--folder", str(tmp_path)]
    for name in ("nano", "torch-0", "root", "decompression-1"):
        arguments += ["--only", name]
    result = CliRunner().invoke(command.app, [*arguments, "--root-python", ROOT_PYTHON])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    rows = rows_of(document, "nano")
    assert [row.system for row in rows] == ["torch-0", "root", "decompression-1"]
    assert not any(row.failure for row in rows)
    assert all(row.check["equal"] == 1000 for row in rows[:2] if row.check)
