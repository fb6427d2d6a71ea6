"""A training that a signal stops, and goes on with `fit --resume`, is that of one without."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hepdata_adapters.cli.main import main
from tests.helpers.samples import write_events

ROOT = Path(__file__).resolve().parents[3]
# the model notes what it is trained with, and sends a signal in its n-th step
TORCH = """
import json, os, signal
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1)
        )
        self.trained = 0

    def forward(self, x):
        if self.training:
            with Path(os.environ["NOTES"]).open("a") as notes:
                notes.write(json.dumps(x[:, 0].tolist()) + "\\n")
            self.trained += 1
        if self.trained == int(os.environ["AT"]) and self.training == ("IN_TRAINING" in os.environ):
            os.environ["AT"] = "-1"
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))
        return self.layers(x)

def net(features):
    return Net(features)
"""
BATCHES, EPOCHS = 6, 3


def config_of(folder: Path, framework: str, model: str) -> Path:
    files = [write_events(folder / f"{n}.root", size, n) for n, size in enumerate((45, 40, 30, 20))]
    (folder / "model.py").write_text(model)
    path = folder / "run.yaml"
    document: dict[str, Any] = {
        "framework": framework,
        "samples": [{"files": str(f), "label": n % 2} for n, f in enumerate(files)],
        "features": ["MET", "passes"],
        "split": {"files": {"validation": ["2.root", "3.root"]}},
        "model": {"factory": str(folder / "model.py") + ":net"},
        "training": {"epochs": EPOCHS, "batch_size": 16, "patience": 2, "accelerator": "cpu"},
    }
    path.write_text(yaml.safe_dump(document))
    return path


def metrics_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "metrics.json").read_text())
    # all else depends on the clock, or on how it was read
    found["training"] = {name: found["training"][name] for name in ("epochs", "events")}
    return found


def losses_of(folder: Path) -> list[tuple[str, str, str]]:
    """Epoch and losses of each epoch, as logged in all parts of a training."""
    paths = sorted((folder / "logs").glob("csv*/metrics.csv"))
    rows = [row for path in paths for row in csv.DictReader(path.read_text().splitlines())]
    return [
        (name, row["epoch"], row[name])
        for name in ("train_loss", "validation_loss")
        for row in rows
        if row.get(name)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """The config, and the metrics and the batches of a training without a signal."""
    folder = tmp_path_factory.mktemp("interrupt")
    config = config_of(folder, "torch", TORCH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTES", str(folder / "notes"))
        patch.setenv("AT", "-1")
        assert main(["fit", str(config), "-o", str(folder / "whole")]) == 0
    assert not list((folder / "whole").glob("resume.*"))
    return config, metrics_of(folder / "whole"), (folder / "notes").read_text().splitlines()


@pytest.mark.parametrize(
    ("at", "number", "where", "workers"),
    [
        (2, 2, "IN_TRAINING", 0),
        (BATCHES, 15, "IN_TRAINING", 0),
        (BATCHES + 2, 15, "IN_TRAINING", 0),
        (BATCHES + 2, 2, "IN_TRAINING", 2),
        (BATCHES, 2, "IN_VALIDATION", 0),
        (EPOCHS * BATCHES, 2, "IN_VALIDATION", 0),
    ],
)
def test_a_torch_fit_that_a_signal_stopped_goes_on_at_the_next_event(
    whole, tmp_path, monkeypatch, capsys, at, number, where, workers
):
    config, metrics, batches = whole
    notes, run = tmp_path / "notes", tmp_path / "run"
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.setenv("AT", str(at))
    monkeypatch.setenv("SIGNAL", str(number))
    monkeypatch.setenv(where, "yes")
    more = ["--set", f"training.workers={workers}"]
    assert main(["fit", str(config), "-o", str(run), *more]) == 128 + number
    [message] = [line for line in capsys.readouterr().err.splitlines() if "to go on" in line]
    assert message.endswith(f"to go on: hepdata-adapters fit --resume {run}")
    assert notes.read_text().splitlines() == batches[:at]
    assert main(["fit", str(config), "-o", str(run)]) == 2
    assert f"go on with fit --resume {run}" in capsys.readouterr().err

    monkeypatch.setenv("AT", "-1")
    assert main(["fit", "--resume", str(run)]) == 0
    assert notes.read_text().splitlines() == batches
    assert metrics_of(run) == metrics
    assert losses_of(run) == losses_of(config.parent / "whole")
    assert main(["fit", "--resume", str(run)]) == 2
    assert "nothing to go on with: its training has ended" in capsys.readouterr().err


def test_an_early_stop_that_a_signal_came_with_is_no_epoch_to_go_on_with(
    whole, tmp_path, monkeypatch
):
    notes, run = tmp_path / "notes", tmp_path / "run"
    given = {"AT": 2 * BATCHES, "SIGNAL": 2, "IN_VALIDATION": "yes", "NOTES": notes}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    stops = ["--set", "training.patience=1"]
    assert main(["fit", str(whole[0]), "-o", str(run), *stops]) == 130
    assert main(["fit", "--resume", str(run)]) == 0
    assert notes.read_text().splitlines() == whole[2][: 2 * BATCHES]
    assert metrics_of(run)["training"]["epochs"] == 2


KERAS = """
import json, os, signal
from pathlib import Path
import keras

class Net(keras.Model):
    steps = 0

    def train_step(self, data):
        with Path(os.environ["NOTES"]).open("a") as notes:
            notes.write(json.dumps(data[0][:, 0].numpy().tolist()) + "\\n")
        Net.steps += 1
        if Net.steps == int(os.environ["AT"]):
            os.kill(os.getpid(), signal.SIGINT)
        return super().train_step(data)

def net(features):
    x = keras.Input((features,))
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, activation="relu")(x))
    made = Net(x, keras.layers.Dense(1)(hidden))
    made.compile(
        keras.optimizers.Adam(0.01), keras.losses.BinaryCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    return made
"""


def test_a_keras_fit_that_ctrl_c_stopped_goes_on_at_its_epoch(tmp_path, monkeypatch, capsys):
    pytest.importorskip("keras")
    config = config_of(tmp_path, "tf", KERAS)
    whole, run = tmp_path / "whole", tmp_path / "run"
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("AT", "-1")
    assert main(["fit", str(config), "-o", str(whole)]) == 0
    assert not list(whole.glob("resume*"))
    batches = (tmp_path / "notes").read_text().splitlines()

    monkeypatch.setenv("NOTES", str(tmp_path / "again"))
    monkeypatch.setenv("AT", str(BATCHES + 2))
    assert main(["fit", str(config), "-o", str(run)]) == 130
    assert f"to go on: hepdata-adapters fit --resume {run}" in capsys.readouterr().err
    trained = (tmp_path / "again").read_text().splitlines()
    assert trained == batches[: BATCHES + 2]
    monkeypatch.setenv("AT", "-1")
    assert main(["fit", "--resume", str(run)]) == 0
    assert (tmp_path / "again").read_text().splitlines() == trained + batches[BATCHES:]
    assert metrics_of(run) == metrics_of(whole)
    logs = [folder / "logs" / "csv" / "metrics.csv" for folder in (run, whole)]
    assert logs[0].read_text() == logs[1].read_text()
    assert not list(run.glob("resume*"))


FRESH = """
import sys
from hepdata_adapters.cli.main import main
assert main(sys.argv[1:]) == 0
print("tensorflow" in sys.modules)
"""


def test_a_torch_fit_does_not_import_tensorflow(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("AT", "-1")
    config, run = whole[0], tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", FRESH, "fit", str(config), "-o", str(run), "--set",
         "training.epochs=1"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    assert list((run / "logs" / "tb").glob("events.*")), "tensorboard has its log"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "a config is missing: fit CONFIG, or fit --resume RUN"),
        (["fit", "run.yaml", "--resume", "runs/x"], "nothing else can be given with it"),
        (["fit", "--resume", "runs/x", "--overwrite"], "nothing else can be given with it"),
        (["fit", "--resume", "nowhere"], "not a run folder: it has no config.yaml"),
    ],
)
def test_what_resume_takes_is_said(arguments, message, capsys):
    assert main(arguments) in (1, 2)
    assert message in capsys.readouterr().err
