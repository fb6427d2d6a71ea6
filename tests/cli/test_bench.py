"""``bench``: rates, stages, the limit and advice, of torch and tf, on a few events."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
import yaml

from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.files.handles import LocalSource
from hepdata_adapters.common.runs.stages import STAGES, TRAINING, WAITING
from hepdata_adapters.common.runs.throughput_setting import setting_of
from hepdata_adapters.common.stream.dataset import Dataset
from tests.helpers import commands
from tests.helpers.commands import one_line, write, write_config

call = commands.call
project = commands.project

SLEEPY = """
import time
from hepdata_adapters import scaling_function

@scaling_function("bench_sleepy")
def sleepy(xp, values):
    time.sleep(0.02)
    return values * 1.0
"""
CHUNKS = {"chunk_size": 64}
RATE = {
    "events", "seconds", "events_per_second", "mb_per_second", "mb_per_second_of_files",
    "mb_per_second_from_disk", "cores_busy",
}  # fmt: skip
MEASURED = RATE | {
    "events_per_second_while_watched", "epochs", "first_batch_seconds", "stages", "peak_bytes",
    "peak_bytes_of_workers",
}  # fmt: skip
ROW = {"stage", "thread_seconds", "share", "us_per_event", "mostly_in", "code_of_others"}
DOCUMENT = {
    "version", "config", "setting", "seconds_for_files_and_specs", "loader",
    "loader_with_workers", "step", "no_step", "both", "first_start", "limit", "advice", "remarks",
}  # fmt: skip


def measured_by(call, *arguments) -> dict:
    answer = call("bench", *arguments, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


@pytest.mark.parametrize("framework", ["torch", "tf"])
def test_the_document_holds_all_numbers(call, project, framework):
    pytest.importorskip({"torch": "torch", "tf": "tensorflow"}[framework])
    found = measured_by(
        call, project / "config.yaml", "--framework", framework, "--seconds", 0.5
    )  # fmt: skip
    assert set(found) == DOCUMENT
    assert found["version"] == 1
    assert found["setting"]["framework"] == framework
    assert set(found["setting"]["memory"]) >= {"budget", "chunks", "ahead", "units", "data"}
    assert found["loader_with_workers"] is found["first_start"] is None
    for name in ("loader", "step", "both"):
        part = found[name]
        assert set(part) == MEASURED
        assert part["events_per_second"] == pytest.approx(part["events"] / part["seconds"], 0.01)
        assert all(set(row) == ROW for row in part["stages"])
        named = [row["stage"] for row in part["stages"]]
        assert named == sorted(named, key=STAGES.index)
        shares = [row["share"] for row in part["stages"] if row["stage"] != WAITING]
        assert sum(shares) == pytest.approx(1, abs=0.001)
        assert part["events"] > 0
    assert found["loader"]["mb_per_second"] > 0
    assert {row["stage"] for row in found["step"]["stages"]} & set(TRAINING)
    assert set(found["limit"]) == {"who", "stage", "text"}
    assert found["limit"]["who"] in ("reading", "step", "both")
    assert all(set(one) == {"text", "set"} for one in found["advice"])


def test_the_report_says_who_is_the_limit(call, project, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("mplhep")
    picture = tmp_path / "stages.png"
    answer = call(
        "bench", project / "config.yaml", "--seconds", 0.4, "--picture", picture,
        "--set", "training.batch_size=16",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    for words in (
        "torch, 2 file(s) (TTree, ", "batches of 16", "events/s", "where the loader's time goes",
        "where the step's time goes", "memory for reading: 600 MiB (by default): chunks ",
        "files and specs took ", f"picture: {picture}",
    ):  # fmt: skip
        assert words in answer.out, answer.out
    # which of the two it is depends on the machine and on who else uses it
    assert re.search(r" is the limit: [\d,]+ events/s| are about equal", answer.out), answer.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(Path(project).glob("runs"))


def test_the_advice_on_batches_helps(call, project):
    pytest.importorskip("torch")
    config, small = project / "config.yaml", ["--set", "training.batch_size=8"]
    before = measured_by(call, config, "--seconds", 0.5, *small)
    (wanted,) = [one["set"] for one in before["advice"] if "batch_size" in one["set"]]
    after = measured_by(call, config, "--seconds", 0.5, "--set", wanted)
    assert after["step"]["events_per_second"] > 3 * before["step"]["events_per_second"]


def test_without_labels_there_is_no_step(call, tmp_path):
    pytest.importorskip("torch")
    path = write(tmp_path / "a.root", 300)
    config = write_config(tmp_path / "config.yaml", [{"files": path.name}])
    found = measured_by(call, config, "--seconds", 0.3)
    assert (found["step"], found["both"]) == (None, None)
    assert found["no_step"] == "no sample has a label"
    assert found["limit"]["who"] == "reading"
    said = call("bench", config, "--seconds", 0.3)
    assert "no training step: no sample has a label" in said.out


def slow_config(folder: Path, **training: int) -> Path:
    (folder / "own.py").write_text(SLEEPY)
    samples = [
        {"files": write(folder / f"{label}.root", 400, label).name, "label": label}
        for label in (0, 1)
    ]
    features = [{"branch": "x", "scaling": {"function": "own.py:sleepy"}}, {"branch": "n"}]
    return write_config(
        folder / "config.yaml", samples, features=features, training=training,
        sampling=CHUNKS,
    )  # fmt: skip


def test_a_slow_function_of_the_user_is_the_limit_and_processes_help(call, tmp_path):
    pytest.importorskip("torch")
    config = slow_config(tmp_path)
    found = measured_by(call, config, "--seconds", 1)
    assert (found["limit"]["who"], found["limit"]["stage"]) == ("reading", "transform")
    assert found["limit"]["text"].endswith(".sleepy")
    row = next(row for row in found["loader"]["stages"] if row["stage"] == "transform")
    assert row["share"] > 0.5
    assert row["code_of_others"].endswith(".sleepy")
    advice = found["advice"][0]
    assert ".sleepy, which is not ours" in advice["text"]
    if found["setting"]["cores"] < 2:
        return
    assert advice["set"] == f"training.workers={found['setting']['cores']}"
    after = measured_by(call, config, "--seconds", 1, "--set", advice["set"])
    outside, inside = after["loader_with_workers"], after["loader"]
    assert len(outside["peak_bytes_of_workers"]) >= found["setting"]["cores"]
    assert outside["stages"] == []
    assert outside["events_per_second"] > 1.3 * inside["events_per_second"]


def test_a_slow_source_is_the_limit(call, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    samples = [
        {"files": write(tmp_path / f"{label}.root", 400, label).name, "label": label}
        for label in (0, 1)
    ]
    config = load_config(write_config(tmp_path / "config.yaml", samples, sampling=CHUNKS))
    memory = setting_of(Dataset.prepare(config), config, 0).memory
    real = LocalSource.read_into

    def read_into(self: LocalSource, start: int, room: memoryview) -> None:
        time.sleep(0.01)
        real(self, start, room)

    # so that the waiting is that of the module that reads
    monkeypatch.setitem(read_into.__globals__, "__name__", LocalSource.__module__)
    monkeypatch.setattr(LocalSource, "read_into", read_into)
    # no memory for units: every chunk reads them again
    least = f"reading.memory={memory.chunks + memory.ahead}"
    found = measured_by(call, tmp_path / "config.yaml", "--seconds", 1, "--set", least)
    assert (found["limit"]["who"], found["limit"]["stage"]) == ("reading", "fetch")
    assert any("the storage gives the bytes too slowly" in one["text"] for one in found["advice"])


def test_a_first_start_compiles(call, project):
    pytest.importorskip("torch")
    start = measured_by(call, project / "config.yaml", "--seconds", 0.2, "--first-start")[
        "first_start"
    ]
    for part in start.values():
        assert set(part) == {"imports", "files", "batch", "total"}
        whole = part["imports"] + part["files"] + part["batch"]
        assert part["total"] == pytest.approx(whole, abs=0.01)
    assert start["first"]["total"] > 1.2 * start["later"]["total"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--picture", "stages.txt"], 2, "--picture writes .png, .pdf or .svg, not 'stages.txt'"),
        (["--picture", f"{__file__}/a.png"], 1, "a.png"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--workers", "-1"], 2, "--workers"),
        (["--set", "split={train: 0, validation: 1, test: 0}"], 1, "train"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(call, project, arguments, code, said):
    answer = call("bench", project / "config.yaml", *arguments)
    line = answer.err.splitlines()[-1]
    assert line.startswith("hepdata-adapters: ")
    assert (answer.code, answer.out) == (code, "")
    assert said in line


def test_a_picture_needs_its_extra_before_the_work(call, project, monkeypatch):
    monkeypatch.setitem(sys.modules, "mplhep", None)
    answer = call("bench", project / "config.yaml", "--picture", "a.png")
    assert "hepdata-adapters[plots]" in one_line(answer, 1)


def test_user_code_can_be_refused(call, tmp_path):
    config = slow_config(tmp_path)
    assert yaml.safe_load(config.read_text())["features"]
    assert "--no-user-code refuses" in one_line(call("bench", config, "--no-user-code"), 2)
