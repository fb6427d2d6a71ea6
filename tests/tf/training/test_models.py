"""Keras networks, what they score, and the loss of weighted events against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="TensorFlow is not installed")

import tensorflow as tf  # noqa: E402
import torch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from hepdata_adapters.common.config.training_config import ModelConfig  # noqa: E402
from hepdata_adapters.common.core.errors import ConfigError  # noqa: E402
from hepdata_adapters.tf.training.losses import EventLoss  # noqa: E402
from hepdata_adapters.tf.training.models import (  # noqa: E402
    build_model,
    build_scorer,
    feed_forward,
    gives_probabilities,
)
from hepdata_adapters.torch.training.event_module import activate, weighted_loss  # noqa: E402

TASKS = ["binary", "multiclass", "regression"]


def sequential(*layers: object) -> keras.Model:
    return keras.Sequential([keras.Input((3,)), *layers])


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ([keras.layers.Dense(1)], False),
        ([keras.layers.Dense(1, activation="sigmoid")], True),
        ([keras.layers.Dense(1), keras.layers.Activation("sigmoid")], True),
        ([keras.layers.Dense(2), keras.layers.Softmax()], True),
        ([keras.layers.Dense(4, activation="sigmoid"), keras.layers.Dense(1)], False),
        ([sequential(keras.layers.Dense(1, activation="sigmoid"))], True),
        ([Subclassed()], False),
    ],
)
def test_an_activation_at_the_end_is_found(layers, found):
    assert gives_probabilities(sequential(*layers), "binary") is found


def test_a_sigmoid_inside_or_outside_gives_the_same_scores():
    plain = sequential(keras.layers.Dense(1))
    ended = sequential(keras.layers.Dense(1, activation="sigmoid"))
    ended.set_weights(plain.get_weights())
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    one, other = (build_scorer(net, 3, "binary")(x).numpy() for net in (plain, ended))
    np.testing.assert_allclose(one, other, atol=1e-7)
    assert one.shape == (50,)
    assert 0 < one.min() < one.max() < 1


@pytest.mark.parametrize("task", TASKS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 9))
def test_the_loss_is_that_of_pytorch(task, seed, rows):
    """Negative weights, and rows of weight 0, included."""
    random = np.random.default_rng(seed)
    outputs = 3 if task == "multiclass" else 1
    logits = random.normal(0, 3, (rows, outputs)).astype(np.float32)
    label = random.normal(size=rows) if task == "regression" else random.integers(0, 2, rows)
    weight = random.normal(size=rows) * (random.random(rows) < 0.7)
    raw = torch.from_numpy(logits if task == "multiclass" else logits[:, 0])
    wanted = float(weighted_loss(raw, torch.from_numpy(label), torch.from_numpy(weight), task))
    found = float(EventLoss(task)(label, logits, weight))
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    if task != "regression":
        scores = activate(raw, task).numpy()
        again = float(EventLoss(task, from_logits=False)(label, scores, weight))
        assert again == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_the_loss_is_saved_and_loaded():
    loss = EventLoss("multiclass", from_logits=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert (again.task, again.from_logits) == ("multiclass", False)


@pytest.mark.parametrize(
    ("task", "units", "said"),
    [
        ("binary", 2, r"must return \(n,\) or \(n, 1\), not \(None, 2\)"),
        ("regression", 3, r"must return \(n,\) or \(n, 1\)"),
    ],
)
def test_an_output_of_another_shape_is_refused(task, units, said):
    with pytest.raises(ConfigError, match=said):
        build_scorer(sequential(keras.layers.Dense(units)), 3, task)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import torch; return torch.nn.Linear(n, 1)", "framework: torch' meant"),
        ("return None", "returned NoneType, not a keras.Model"),
        ("return 1 / 0", "ZeroDivisionError"),
        (
            "import keras; return keras.Sequential([keras.Input((n + 1,)), keras.layers.Dense(1)])",
            r"does not take \(n, 5\)",
        ),
    ],
)
def test_a_model_of_the_user_that_fails_is_told_so(tmp_path, body, said):
    path = tmp_path / "mine.py"
    path.write_text(f"def make(n):\n    {body}\n")
    with pytest.raises(ConfigError, match=said):
        build_model(ModelConfig(factory=f"{path}:make"), 5, 1)


MUONS = """
import keras

def make(shapes):
    muons = keras.Input(shapes["muons"], name="muons")
    return keras.Model({}, keras.layers.Dense(1, kernel_initializer="ones")(muons))
"""


def test_a_model_of_some_inputs_finds_them_by_name_or_is_refused(tmp_path):
    """Keras would give the muons of a dict the first input, electrons, and only warn."""
    path = tmp_path / "mine.py"
    specs = {name: tf.TensorSpec((None, 2), tf.float32, name) for name in ("electrons", "muons")}
    path.write_text(MUONS.format("[muons]"))
    net = build_model(ModelConfig(factory=f"{path}:make"), specs, 1)
    scorer = build_scorer(net, specs, "regression")
    given = {"electrons": np.ones((1, 2), np.float32), "muons": np.full((1, 2), 10, np.float32)}
    assert scorer(given).numpy().tolist() == [20.0]
    path.write_text(MUONS.format("{'muons': muons}"))
    with pytest.raises(ConfigError, match=r"(?s)does not take electrons .*`inputs`"):
        build_model(ModelConfig(factory=f"{path}:make"), specs, 1)


def test_the_papers_network_is_the_same_in_both_frameworks():
    from hepdata_adapters.torch import FeedForward

    ours = [weight.shape for weight in feed_forward(7, 3).get_weights()]
    torchs = [tuple(p.shape[::-1]) for p in FeedForward(7, 3).parameters()]
    assert [tuple(shape) for shape in ours] == torchs
