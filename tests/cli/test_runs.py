"""fit, evaluate, predict and export on one run: files, rows, and faults in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.torch.training.run_folder import load_run
from tests.helpers import commands
from tests.helpers.commands import SPLITS, one_line, rows_of, write

call = commands.call
project = commands.trained_project

RUN_FILES = {
    "config.yaml", "specs.json", "transform.json", "task.json", "checkpoint.ckpt", "metrics.json",
    "ledger.json", "golden_events.json", "provenance.json",
}  # fmt: skip


def test_fit_leaves_everything_in_the_run_folder(project):
    run = project / "run"
    assert {path.name for path in run.iterdir() if path.is_file()} == RUN_FILES | {
        "roc.png", "scores.png"
    }  # fmt: skip
    for picture in run.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((run / "metrics.json").read_text())
    assert sum(metrics[split]["events"] for split in SPLITS) == 550
    for split in SPLITS:
        assert 0.6 < metrics[split]["auc"] <= 1
    assert metrics["training"]["epochs"] == 2
    ledger = json.loads((run / "ledger.json").read_text())
    assert ledger["evaluation"]["events delivered"] == {"": 550}
    trained = metrics["train"]["events"] * 2 + metrics["validation"]["events"] * 2
    assert ledger["training"]["events delivered"] == {"": trained}


def test_the_run_folder_stands_alone(project):
    config = yaml.safe_load((project / "run" / "config.yaml").read_text())
    assert config["model"]["hidden"] == [16]  # --set
    assert config["training"]["seed"] == 3
    assert config["training"]["epochs"] == 2
    for sample in config["samples"]:
        assert all(Path(name).is_absolute() for name in sample["files"])


def test_fit_refuses_a_folder_that_holds_something(call, project, tmp_path):
    config = project / "config.yaml"
    message = one_line(call("fit", config, "-o", project / "run"), 2)
    assert "not empty" in message
    (tmp_path / "letter.txt").write_text("keep me")
    message = one_line(call("fit", config, "-o", tmp_path, "--overwrite"), 2)
    assert "not a run folder" in message
    assert (tmp_path / "letter.txt").read_text() == "keep me"


def test_a_failed_fit_leaves_nothing_in_the_way(call, project, tmp_path):
    arguments = ["fit", project / "config.yaml", "-o", tmp_path / "run"]
    for override in ("model.factory=none.py:make", "features=[y]", "samples.1.label=null"):
        assert call(*arguments, "--set", override).code in (1, 2)
        assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_evaluate_gives_the_metrics_of_the_fit_again(call, project):
    picture = project / "run" / "roc.png"
    picture.unlink()
    answer = call("evaluate", project / "run")
    assert answer.code == 0
    metrics = json.loads((project / "run" / "metrics.json").read_text())
    for split in SPLITS:
        (line,) = (line for line in answer.out.splitlines() if line.startswith(split))
        assert f"{metrics[split]['auc']:.4f}" in line
    assert "events delivered: 550" in answer.out
    assert picture.exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_folder_that_is_no_run_is_named(call, tmp_path, command):
    files = ["a.root"] if command == "predict" else []
    message = one_line(call(command, tmp_path / "none", *files), 1)
    assert "not a run folder" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("task.json", b"{"),
        ("task.json", b"{}"),
        ("task.json", b'{"task": "guess", "outputs": ["a"]}'),
        ("checkpoint.ckpt", b""),
        ("checkpoint.ckpt", b"garbage"),
        ("transform.json", b"\xff"),
        ("specs.json", b"[]"),
        ("config.yaml", b"a: ["),
    ],
)
def test_a_corrupt_part_of_a_run_is_named(call, project, name, content):
    path = project / "run" / name
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        answer = call("evaluate", project / "run")
    finally:
        path.write_bytes(before)
    assert answer.code in (1, 2)
    message = one_line(answer, answer.code)
    assert name in message
    assert "unexpected" not in message


def columns_of(path: Path) -> dict[str, Any]:
    with uproot.open(path) as file:
        tree = file["Events"]
        jets = Jagged.from_lists(tree["Jet_pt"].array().to_list(), np.float32)
        names = [name for name in tree.keys() if name != "Jet_pt"]  # noqa: SIM118 (uproot)
        return {"Jet_pt": jets} | {name: tree[name].array(library="np") for name in names}


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_predict_writes_one_row_an_event_in_input_order(call, project, tmp_path, kind):
    files = [project / "bkg.root", project / "sig.root"]
    path = tmp_path / f"scores.{kind}"
    answer = call("predict", project / "run", *files, "-o", path)
    assert answer.code == 0
    rows = rows_of(path)
    split = dict(zip(*np.unique(rows["split"].astype(str), return_counts=True), strict=True))
    assert answer.out == (
        f"{path}: 550 events, 550 scored (train {split['train']}, validation "
        f"{split['validation']}, test {split['test']}); the model was trained on those of train\n"
    )
    assert rows["file"].tolist() == [0] * 250 + [1] * 300
    assert rows["entry"].tolist() == [*range(250), *range(300)]
    assert rows["score"].dtype == np.float32
    run = load_run(project / "run")
    by_hand = [run.score(run.transform(columns_of(file)).arrays["x"]) for file in files]
    np.testing.assert_allclose(rows["score"], np.concatenate(by_hand), rtol=1e-6)


def test_predict_keeps_the_identity_of_events(call, project, tmp_path):
    number = np.int64(2**53) + np.arange(20)
    identity = {"run": np.full(20, 7, np.uint32), "luminosityBlock": np.arange(20, dtype=np.uint32)}
    path = write(tmp_path / "ids.root", 20, event=number, **identity)
    assert call("predict", project / "run", path, "-o", tmp_path / "scores.root").code == 0
    rows = rows_of(tmp_path / "scores.root")
    assert rows["event"].tolist() == number.tolist()
    assert rows["run"].tolist() == [7] * 20
    assert rows["luminosityBlock"].tolist() == list(range(20))


def test_predict_counts_what_it_cut(call, project, tmp_path):
    jets = ak.unflatten(np.ones(40, np.float32), np.full(4, 10))
    path = write(tmp_path / "long.root", 4, Jet_pt=jets)
    answer = call("predict", project / "run", path, "-o", tmp_path / "scores.root")
    assert answer.code == 0
    assert "values beyond the pad length: 28 (Jet_pt)" in answer.err


def test_predict_takes_globs_and_never_overwrites_unasked(call, project, tmp_path):
    path = tmp_path / "scores.root"
    assert call("predict", project / "run", project / "*.root", "-o", path).code == 0
    assert len(rows_of(path)["entry"]) == 550
    message = one_line(call("predict", project / "run", project / "*.root", "-o", path), 2)
    assert "--overwrite" in message
    mine = write(tmp_path / "mine.root", 20)
    before = mine.read_bytes()
    answer = call("predict", project / "run", mine, "-o", mine, "--overwrite")
    assert "one of the files to score" in one_line(answer, 2)
    assert mine.read_bytes() == before


def test_predict_names_the_fault_and_leaves_nothing_behind(call, project, tmp_path):
    x = np.zeros(20, np.float32)
    x[13] = np.nan
    path = write(tmp_path / "nan.root", 20, x=x)
    output = tmp_path / "out" / "scores.root"
    message = one_line(call("predict", project / "run", path, "-o", output), 1)
    for said in ("x holds NaN", str(path), "tree Events", "entry 13"):
        assert said in message
    assert not any(output.parent.glob("*"))
    message = one_line(call("predict", project / "run", path, "-o", tmp_path / "scores.csv"), 2)
    assert ".root or .parquet" in message


def test_an_export_says_which_version_answers(call, project, tmp_path):
    arguments = ["export", project / "run", "--format", "torchserve", "-o", tmp_path]
    first, second = call(*arguments).out, call(*arguments).out
    name = json.loads((tmp_path / "stable.json").read_text())["earlier"].popitem()[0]
    assert "promote" not in first
    assert f"{name}-2.0.mar: " in second
    assert (
        "version 1 goes on to answer requests that name no version; to let 2 do so: "
        f"hepdata-adapters promote {tmp_path} --model {name}\n"
    ) in second
