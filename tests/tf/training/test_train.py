"""``fit`` with Keras: the same run folder, and the same physics, as with PyTorch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml

keras = pytest.importorskip("keras", reason="TensorFlow is not installed")

from hepdata_adapters.cli.main import main  # noqa: E402
from hepdata_adapters.common.core.errors import ConfigError  # noqa: E402
from hepdata_adapters.common.files.source import Source  # noqa: E402
from hepdata_adapters.runs import load_run  # noqa: E402
from tests.helpers.samples import write_events  # noqa: E402

SPLITS = ("train", "validation", "test")
FILES = {
    "config.yaml", "provenance.json", "specs.json", "transform.json", "task.json",
    "checkpoint.weights.h5", "metrics.json", "ledger.json", "golden_events.json", "logs",
    "roc.png", "scores.png",
}  # fmt: skip


def write_config(folder: Path, **options: Any) -> Path:
    files = [write_events(folder / f"{n}.root", 400, n) for n in (0, 1)]
    document = {
        "samples": [{"files": path.name, "label": n} for n, path in enumerate(files)],
        "features": ["MET", "passes", "Jet_*"],
        "framework": "tf",
        "training": {"epochs": 2, "batch_size": 32},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document | options))
    return path


def fit(config: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    settings = [word for override in overrides for word in ("--set", override)]
    assert main(["fit", str(config), "-o", str(folder), *settings, "--debug"]) == 0
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of samples with a run that nobody changes; `copied` may be."""
    folder = tmp_path_factory.mktemp("trained")
    fit(write_config(folder), folder / "run")
    return folder


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "run", tmp_path / "run"))


def raw_columns(path: Path, run: Any) -> Any:
    from hepdata_adapters.common.inference.input_files import scan_inputs

    file = scan_inputs([str(path)], run.transform).files[0]
    with Source([branch.name for branch in run.transform.branches]) as source:
        return source.read(file, 0, file.entries)


def test_the_run_folder_and_what_uses_it(trained, copied, tmp_path, capsys):
    metrics = json.loads((copied / "metrics.json").read_text())
    assert {path.name for path in copied.iterdir()} == FILES
    assert sum(metrics[split]["events"] for split in SPLITS) == 800
    assert metrics["training"]["epochs"] == 2
    assert metrics["training"]["events"] == 2 * metrics["train"]["events"]
    ledger = json.loads((copied / "ledger.json").read_text())
    seen = 2 * (metrics["train"]["events"] + metrics["validation"]["events"])
    assert ledger["training"]["events delivered"] == {"": seen}

    assert main(["evaluate", str(copied)]) == 0
    assert json.loads((copied / "metrics.json").read_text()) == metrics

    source = trained / "0.root"
    out = tmp_path / "scores.root"
    assert main(["predict", str(copied), str(source), "-o", str(out)]) == 0
    rows = uproot.open(out)["scores"].arrays(library="np")
    run = load_run(copied)
    made = run.transform(run.transform.prepare(raw_columns(source, run)))
    scores = run.score(run.transform.model_input(made.arrays))
    np.testing.assert_allclose(rows["score"], scores, atol=1e-6)
    assert run.model.count_params() > 0
    capsys.readouterr()


MODELS = {
    "plain": "keras.layers.Dense(1)",
    "sigmoid": "keras.layers.Dense(1, activation='sigmoid')",
}


@pytest.mark.parametrize(
    ("ending", "compiled"), [("plain", True), ("sigmoid", False), ("sigmoid", True)]
)
def test_a_keras_model_of_the_user_compiled_or_not(tmp_path, ending, compiled, capsys):
    line = "    net.compile(keras.optimizers.SGD(0.1), loss=keras.losses.MeanSquaredError())\n"
    (tmp_path / "mine.py").write_text(
        "import keras\n\ndef make(num_features):\n"
        f"    net = keras.Sequential([keras.Input((num_features,)), {MODELS[ending]}])\n"
        f"{line if compiled else ''}    return net\n"
    )
    config = write_config(tmp_path)
    metrics = fit(config, tmp_path / "run", f"model.factory={tmp_path}/mine.py:make")
    assert "auc" in metrics["test"]
    assert ("compiled already" in capsys.readouterr().err) is compiled
    run = load_run(tmp_path / "run")  # from the copy of the user's file
    assert len(run.model.weights) == 2


@pytest.mark.parametrize(
    ("task", "label", "outputs"), [("multiclass", "Jet", 3), ("regression", "MET", 1)]
)
def test_other_tasks(tmp_path, task, label, outputs):
    if task == "multiclass":
        files = [write_events(tmp_path / f"{n}.root", 300, n) for n in range(3)]
        samples = [{"files": path.name, "label": n} for n, path in enumerate(files)]
    else:
        samples = [{"files": write_events(tmp_path / "0.root", 500).name, "label": "MET"}]
    config = write_config(tmp_path, samples=samples, task=task, features=["passes", "Jet_pt"])
    metrics = fit(config, tmp_path / "run")
    run = load_run(tmp_path / "run")
    x = np.zeros((5, run.transform.num_features), np.float32)
    assert run.score(x).shape == ((5, 3) if task == "multiclass" else (5,))
    assert ("auc" in metrics["test"]) is (task == "multiclass")
    assert ("r2" in metrics["test"]) is (task == "regression")


def test_training_without_validation_events(tmp_path):
    split = "split={train: 0.8, validation: 0.0, test: 0.2}"
    metrics = fit(write_config(tmp_path), tmp_path / "run", split)
    assert metrics["validation"] == {"events": 0}
    assert metrics["training"]["epochs"] == 2


def said_by(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) in (1, 2)
    return capsys.readouterr().err.splitlines()[-1]


def test_a_fault_in_the_data_is_told_in_its_own_words(tmp_path, capsys):
    """TensorFlow wraps the errors of a generator in pages of its own."""
    config = write_config(tmp_path)
    arguments = ("fit", config, "-o", tmp_path / "run")
    assert main([*map(str, arguments)]) == 0  # the specs are in the cache
    with (tmp_path / "0.root").open("r+b") as file:
        file.seek(400)
        file.write(bytes(15_000))
    message = said_by(capsys, *arguments, "--overwrite")
    assert "0.root" in message
    assert len(message) < 1000


def test_a_run_of_the_other_framework_is_told(trained):
    from hepdata_adapters.torch.training.run_folder import load_run as load_torch

    with pytest.raises(ConfigError, match="was trained with framework 'tf', not 'torch'"):
        load_torch(trained / "run")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("checkpoint.weights.h5", b"garbage", "does not fit the model"),
        ("checkpoint.weights.h5", None, "it has no checkpoint.weights.h5"),
        ("task.json", b"{", "task.json is corrupt"),
    ],
)
def test_a_corrupt_part_of_a_run_is_named(copied, capsys, name, content, said):
    path = copied / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert said in said_by(capsys, "evaluate", copied)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.devices=2", "tf.distribute"),
        ("framework=jax", "framework"),
        ("model.factory=examples/tth/model.py:model", "framework: torch' meant"),
    ],
)
def test_what_makes_no_sense_for_keras_is_told(tmp_path, capsys, override, said):
    config = write_config(tmp_path)
    assert said in said_by(capsys, "fit", config, "-o", tmp_path / "run", "--set", override)
