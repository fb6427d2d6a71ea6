"""`fit` says whether reading or the training step is the limit, in each framework."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hepdata_adapters.cli.main import main
from hepdata_adapters.tf.data.dataset import RootSource
from hepdata_adapters.torch import RootIterableDataset
from hepdata_adapters.torch.data import loader
from tests.helpers.samples import write_events

DELAY = 0.05  # seconds a batch
MODELS = {
    "torch": """
import time
from torch import nn
class Net(nn.Linear):
    def forward(self, x):
        time.sleep({delay} * self.training)
        return super().forward(x)
def net(features):
    return Net(features, 1)
""",
    "tf": """
import time
import keras
import tensorflow as tf
@keras.saving.register_keras_serializable()
class Slow(keras.layers.Layer):
    def call(self, x, training=False):
        def wait(values):
            time.sleep({delay})
            return values
        return tf.ensure_shape(tf.numpy_function(wait, [x], x.dtype), x.shape) if training else x
def net(features):
    x = keras.Input((features,))
    return keras.Model(x, keras.layers.Dense(1)(Slow()(x) if {delay} else x))
""",
}


def fitted(
    folder: Path, capsys: pytest.CaptureFixture[str], framework: str, delay: float, **training: Any
) -> tuple[list[str], dict[str, Any]]:
    """The last epoch's line and those after it, and what metrics.json says of the training."""
    files = [write_events(folder / f"{n}.root", 250, n) for n in range(2)]
    (folder / "model.py").write_text(MODELS[framework].format(delay=delay))
    document = {
        "framework": framework,
        "samples": [{"files": str(f), "label": n} for n, f in enumerate(files)],
        "features": ["MET", "passes"],
        "model": {"factory": f"{folder}/model.py:net"},
        "training": {"epochs": 2, "batch_size": 8, "accelerator": "cpu", **training},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(document))
    assert main(["fit", str(folder / "config.yaml"), "-o", str(folder / "run")]) == 0
    said = capsys.readouterr().err.splitlines()
    start = next(n for n, line in enumerate(said) if line.startswith("epoch 2/2"))
    return said[start:], json.loads((folder / "run" / "metrics.json").read_text())["training"]


@pytest.mark.parametrize("framework", ["torch", "tf"])
def test_a_slow_step_is_the_limit(tmp_path, capsys, framework):
    (epoch, verdict, *_), figures = fitted(tmp_path, capsys, framework, DELAY)
    what = {"torch": "waiting for data", "tf": "reader busy"}[framework]
    assert f" events/s ({what} " in epoch
    assert "events/s: the training step is the limit (" in verdict
    assert figures["limit"] == "step"
    assert figures["reading"] == {"torch": "in turn", "tf": "beside"}[framework]
    assert 0 < figures["seconds_waited"] < figures["seconds_training"]
    steps = 2 * -(-figures["events"] // 2 // 8)
    assert figures["seconds_training"] >= steps * DELAY


@pytest.mark.parametrize(("framework", "workers"), [("torch", 0), ("torch", 1), ("tf", 0)])
def test_slow_reading_is_the_limit(tmp_path, capsys, monkeypatch, framework, workers):
    source, name = {"torch": (RootIterableDataset, "read"), "tf": (RootSource, "_read")}[framework]
    read = getattr(source, name)

    def slowly(*arguments):
        for batch in read(*arguments):
            time.sleep(DELAY)
            yield batch

    monkeypatch.setattr(source, name, slowly)
    if workers:  # they would know nothing of this patch
        monkeypatch.undo()
        monkeypatch.setattr(loader.DataLoader, "__iter__", slowly_iterated(loader.DataLoader))
    (_, verdict, *more), figures = fitted(tmp_path, capsys, framework, 0, workers=workers)
    assert "events/s: reading is the limit (" in verdict
    assert figures["limit"] == "reading"
    assert figures["reading"] == {"torch": ("in turn", "ahead")[workers], "tf": "beside"}[framework]
    assert figures["seconds_waited"] > 0.5 * figures["seconds_training"]
    assert not any("batch_size" in line or "threads" in line for line in more)


def slowly_iterated(kind: Any) -> Any:
    begin = kind.__iter__

    def iterate(self: Any) -> Iterator[Any]:
        for batch in begin(self):
            time.sleep(DELAY)
            yield batch

    return iterate
