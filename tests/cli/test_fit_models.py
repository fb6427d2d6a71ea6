"""fit with models of the user, several classes, regression, and on real files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hepdata_adapters.torch import RootIterableDataset
from hepdata_adapters.torch.training.run_folder import load_run
from tests.helpers import commands
from tests.helpers.commands import SPLITS, rows_of, write, write_config

call = commands.call
project = commands.project


def test_a_data_fault_in_a_worker_is_one_line(call, project, tmp_path):
    x = np.arange(200, dtype=np.float64)
    x[13] = 1e300
    part = (np.arange(200) == 13).astype(np.int32)
    path = write(tmp_path / "large.root", 200, x=x, label=np.arange(200) % 2, part=part)
    config = write_config(
        tmp_path / "config.yaml", [{"files": path.name, "label": "label"}], task="binary",
        training={"workers": 1}, split={"branch": "part", "values": {"train": 0, "validation": 1}},
        features=["x"],
    )  # fmt: skip
    answer = call("fit", config, "-o", tmp_path / "run")
    assert answer.code == 1
    last = answer.err.splitlines()[-1]
    line = "write under features: {branch: x, clip: [0.0, 199.0]}"
    assert last.startswith(f"hepdata-adapters: x is too large for float32; {line}")
    assert last.endswith(f"[file {path}, tree Events, branch x, entry 13]")
    assert "Traceback" not in answer.err


FACTORY = """
from torch import nn

def make(num_features):
    return nn.Sequential(nn.Linear(num_features, 4), nn.Tanh(), nn.Linear(4, 1))
"""


def test_a_model_of_the_user_travels_with_the_run(call, project, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text(FACTORY)
    override = f"model.factory={source}:make"
    arguments = ["--set", override, "--set", "training.epochs=1"]
    assert call("fit", project / "config.yaml", "-o", tmp_path / "run", *arguments).code == 0
    source.unlink()
    assert (tmp_path / "run" / "model.py").read_text() == FACTORY
    os.rename(tmp_path / "run", tmp_path / "moved")
    assert call("evaluate", tmp_path / "moved").code == 0
    output = tmp_path / "scores.root"
    assert call("predict", tmp_path / "moved", project / "sig.root", "-o", output).code == 0
    assert len(load_run(tmp_path / "moved").model.state_dict()) == 4


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "returned NoneType"),
        ("return nn.Linear(num_features, 2)", "must return (n,) or (n, 1)"),
        ("raise ValueError('so sad')", "so sad"),
        ("return nn.Linear(1, 1)", "shapes cannot be multiplied"),
    ],
)
def test_a_model_of_the_user_that_fails_is_told_so(call, project, tmp_path, body, said):
    source = tmp_path / "mine.py"
    source.write_text(f"from torch import nn\n\ndef make(num_features):\n    {body}\n")
    answer = call(
        "fit", project / "config.yaml", "-o", tmp_path / "run",
        "--set", f"model.factory={source}:make",
    )  # fmt: skip
    assert answer.code in (1, 2)
    assert said in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


def test_several_classes(call, tmp_path):
    samples = [
        {"files": str(write(tmp_path / folder / "x.root", 200 + label, label)), "label": label}
        for label, folder in enumerate("abc")
    ]
    samples[2]["name"] = "t/t bar*"
    config = write_config(tmp_path / "config.yaml", samples)
    answer = call("fit", config, "-o", tmp_path / "run")
    assert answer.code == 0, answer.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for split in SPLITS:
        assert 0.4 < metrics[split]["auc"] <= 1
    pictures = {path.name for path in (tmp_path / "run").glob("scores*.png")}
    assert len(pictures) == 3
    output = tmp_path / "scores.root"
    assert call("predict", tmp_path / "run", tmp_path / "a" / "x.root", "-o", output).code == 0
    rows = rows_of(output)
    scores = [values for name, values in rows.items() if name.startswith("score_")]
    assert len(scores) == 3
    np.testing.assert_allclose(sum(scores), 1, rtol=1e-5)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_class_that_training_never_saw_is_told_before_it(call, tmp_path, split):
    # the split follows run, luminosityBlock and event: it stays when the labels change
    identity = {name: np.arange(300) for name in ("run", "luminosityBlock", "event")}
    label = np.arange(300) % 2
    path = write(tmp_path / "a.root", 300, label=label, **identity)
    dataset = RootIterableDataset(path, split=split, shuffle=False, progress=False)
    label[int(next(iter(dataset))["event"][1])] = 2
    write(path, 300, label=label, **identity)
    config = write_config(
        tmp_path / "config.yaml", [{"files": path.name, "label": "label"}], task="multiclass"
    )
    for command in (["validate", config], ["fit", config, "-o", tmp_path / "run"]):
        answer = call(*command)
        assert answer.code == 2
        last = answer.err.splitlines()[-1]
        assert f"{split} events of class 2 in label, and no training event is of a class" in last
        assert last.endswith("selection: label <= 1 in sample a.root")
    assert not any((tmp_path / "run").iterdir())
    assert call("validate", config, "--set", "samples.0.selection=label <= 1").code == 0


def test_labels_of_one_class_give_no_auc_rather_than_a_wrong_one(call, tmp_path):
    path = write(tmp_path / "a.root", 200, label=np.ones(200, bool))
    config = write_config(tmp_path / "config.yaml", [{"files": path.name, "label": "label"}])
    assert call("fit", config, "-o", tmp_path / "run").code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] == 1
    assert "auc" not in metrics["test"]


def test_training_without_validation_events(call, project, tmp_path):
    answer = call(
        "fit", project / "config.yaml", "-o", tmp_path / "run",
        "--set", "split={train: 0.8, validation: 0.0, test: 0.2}",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["validation"] == {"events": 0}
    assert metrics["test"]["auc"] > 0.6
    assert metrics["training"]["events_per_second"] > 0


def test_regression_on_a_branch(call, tmp_path):
    random = np.random.default_rng(5)
    x = random.normal(size=400).astype(np.float32)
    path = write(tmp_path / "a.root", 400, x=x, energy=(3 * x + 1).astype(np.float64))
    config = write_config(
        tmp_path / "config.yaml", [{"files": path.name, "label": "energy"}], task="regression",
        features=["x"], model={"dropout": 0.0}, training={"epochs": 20, "learning_rate": 0.01},
    )  # fmt: skip
    assert call("fit", config, "-o", tmp_path / "run").code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["r2"] > 0.9
    assert (tmp_path / "run" / "prediction.png").exists()
    assert not (tmp_path / "run" / "roc.png").exists()


# real files: bar 6 of the main job


def real_run(call: Any, folder: Path, path: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    """Fit with all features on a real file, predict it, and give metrics and rows."""
    config = write_config(
        folder / "config.yaml", [{"files": str(path), "label": options.pop("label")}],
        features="*", training={"epochs": 1, "batch_size": 128}, **options,
    )  # fmt: skip
    assert call("fit", config, "-o", folder / "run").code == 0
    assert call("predict", folder / "run", path, "-o", folder / "scores.root").code == 0
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    return metrics, rows_of(folder / "scores.root")


def test_all_features_of_jagged_hzz_with_a_bool_label(call, shared_data, tmp_path):
    path = shared_data / "uproot-HZZ.root"
    metrics, rows = real_run(call, tmp_path, path, label="triggerIsoMu24")
    assert sum(metrics[split]["events"] for split in SPLITS) == 2421
    assert all(0 <= metrics[split]["accuracy"] <= 1 for split in SPLITS)  # all are triggered
    assert rows["entry"].tolist() == list(range(2421))
    assert ((rows["score"] >= 0) & (rows["score"] <= 1)).all()
    run = load_run(tmp_path / "run")
    assert run.task == "binary"
    assert "triggerIsoMu24" not in run.transform.feature_names


def test_all_features_of_an_rntuple_in_a_regression(call, shared_data, tmp_path):
    (path,) = shared_data.glob("Run2012BC_DoubleMuParked_Muons*rntuple*.root")
    metrics, rows = real_run(call, tmp_path, path, label="nMuon", task="regression")
    assert sum(metrics[split]["events"] for split in SPLITS) == 1000
    assert rows["entry"].tolist() == list(range(1000))
    assert np.isfinite(rows["score"]).all()
    assert "nMuon" not in load_run(tmp_path / "run").transform.feature_names
