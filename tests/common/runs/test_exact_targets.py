"""Targets and weights are not rounded to the dtype of the network, in torch and in Keras."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import uproot
from torch import nn

from hepdata_adapters import DatasetConfig
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.runs.evaluate import Scored, metrics_of
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch import EventModule, RootDataModule, RootIterableDataset, Scorer
from hepdata_adapters.torch.training.event_module import weighted_loss

MASS = np.random.default_rng(0).normal(91187.6, 200.0, 300)  # MeV; bfloat16 has steps of 512
GUESS = 91136.0  # that bfloat16 holds


@pytest.fixture(scope="module")
def masses(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("masses") / "z.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"x": np.zeros(len(MASS)), "mass": MASS}
    config = DatasetConfig(
        samples=[{"files": str(path), "label": "mass"}], task="regression",
        features=[{"branch": "x", "scaling": "none"}],
    )  # fmt: skip
    return prepare(config, {}, progress=False)


class Guess(nn.Module):
    """A network that gives one number, and computes in the precision of the trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.constant_(self.layer.bias, GUESS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.to(self.layer.weight.dtype))


def metrics_with(masses: Dataset, net: nn.Module, precision: Any) -> dict[str, float]:
    data = RootDataModule(masses, batch_size=len(MASS), progress=False)
    module = EventModule(net, "regression", learning_rate=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        trainer = lightning.Trainer(
            max_epochs=1, precision=precision, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(module, data)
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        (tested,) = trainer.test(module, data, verbose=False)
    return found | tested


def mean_square(masses: Dataset, split: Any) -> float:
    stream = RootIterableDataset(masses, batch_size=1000, split=split, progress=False)
    target = torch.cat([batch["label"] for batch in stream])
    assert target.dtype == torch.float64
    return float((target - GUESS).square().mean())


@pytest.mark.parametrize(
    ("precision", "cast"), [("bf16-mixed", None), ("32-true", torch.bfloat16),
                            ("32-true", torch.float64), ("64-true", None)]
)  # fmt: skip
def test_lightning_computes_losses_and_metrics_of_exact_targets(masses, precision, cast):
    found = metrics_with(masses, Guess().to(cast) if cast else Guess(), precision)
    for split in ("train", "validation", "test"):
        exact = mean_square(masses, split)
        assert found[f"{split}_loss"] == pytest.approx(exact, rel=1e-6)
        if split != "train":
            assert found[f"{split}_mse"] == pytest.approx(exact, rel=1e-6)


def test_a_batch_that_lightning_has_rounded_is_refused(masses):
    with pytest.raises(ConfigError, match=r"label and weight .* take precision='bf16-mixed'"):
        metrics_with(masses, Guess(), "bf16-true")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_loss_of_any_dtype_is_exact(dtype):
    target, weight = torch.from_numpy(MASS), torch.from_numpy(MASS) / 1e3
    output = torch.full((len(MASS),), 2.0, dtype=dtype)
    exact = np.average((2 - MASS) ** 2, weights=MASS)
    assert float(weighted_loss(output, target, weight, "regression")) == pytest.approx(exact)
    large = torch.tensor([2**26 + 1, 2**52])
    found = weighted_loss(large.to(torch.float64) + 1, large, torch.ones(2), "regression")
    assert float(found) == 1
    one = weighted_loss(torch.tensor([2.0**26]), large[:1], torch.ones(1), "regression")
    assert float(one) == 1, "float32 has steps of 8 there"


@pytest.mark.parametrize("size", [1e-320, 1e-42, 1e-8, 1.0, 1e5, 1e39, 1e308])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_of_any_size_keep_their_ratios(size, dtype):
    logits = torch.tensor([0.0, 1.0, -2.0, 0.5], dtype=dtype)
    label, ratio = torch.tensor([0, 1, 0, 1]), torch.tensor([1.0, -0.5, 0.25, 0.0]).double()
    found = weighted_loss(logits, label, ratio * size, "binary")
    wanted = weighted_loss(logits.float(), label, ratio, "binary")
    assert float(found) == pytest.approx(float(wanted), rel=1e-3 if size < 1e-307 else 1e-6)


def test_weights_that_are_all_zero_give_no_loss_and_no_gradient():
    logits = torch.zeros(3, requires_grad=True)
    loss = weighted_loss(logits, torch.tensor([0, 1, 0]), torch.zeros(3).double(), "binary")
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_scores_of_half_precision_are_float32(task):
    net = nn.Linear(2, 3 if task == "multiclass" else 1).to(torch.bfloat16)
    scores = Scorer(net, task)(torch.ones(4, 2, dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    if task == "multiclass":
        torch.testing.assert_close(scores.sum(1), torch.ones(4), rtol=1e-6, atol=0)


def test_a_constant_target_that_float32_cannot_hold_is_float64(masses):
    files = masses.config.samples[0].files
    for number, dtype in ((16777217, torch.float64), (125.0, torch.float32)):
        config = DatasetConfig(
            samples=[{"files": files, "label": number}], task="regression", features=["x"]
        )  # fmt: skip
        batch = next(iter(RootIterableDataset(config, batch_size=2, progress=False)))
        assert batch["label"].dtype == dtype
        assert batch["label"].tolist() == [number, number]


def test_the_evaluation_is_computed_in_float64():
    label = (MASS * 1000).astype(np.float32)
    scores, weight = np.full(len(label), 91187600, np.float32), np.full(len(label), 1e306)
    found = metrics_of(Scored(scores, label, weight), "regression", 1)
    exact = (scores.astype(float) - label) ** 2
    assert found["mse"] == pytest.approx(exact.mean(), rel=1e-12)
    assert found["loss"] == pytest.approx(exact.mean(), rel=1e-12)
    assert found["r2"] == pytest.approx(1 - exact.mean() / label.astype(float).var(), rel=1e-9)


# --- Keras -----------------------------------------------------------------------------------


@pytest.fixture
def policy():
    keras = pytest.importorskip("keras", reason="TensorFlow is not installed")
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("kind", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float32"])
def test_keras_computes_losses_and_metrics_of_exact_targets(policy, kind):
    import keras
    import tensorflow as tf

    from hepdata_adapters.tf.training.losses import EventLoss
    from hepdata_adapters.tf.training.models import build_scorer
    from hepdata_adapters.tf.training.train import _metrics

    policy(kind)
    guess = 2.0  # float16 holds up to 65504
    net = keras.Sequential([
        keras.Input((1,)),
        keras.layers.Dense(1, kernel_initializer="zeros",
                           bias_initializer=keras.initializers.Constant(guess)),
    ])  # fmt: skip
    net.compile("sgd", loss=EventLoss("regression"), metrics=_metrics("regression", True))
    rows = np.zeros((300, 1), np.float32), MASS, MASS * 1e-12
    found = net.evaluate(tf.data.Dataset.from_tensors(rows), verbose=0, return_dict=True)
    exact = (guess - MASS) ** 2
    assert found["loss"] == pytest.approx(np.average(exact, weights=MASS), rel=1e-6)
    assert found["mse"] == pytest.approx(exact.mean(), rel=1e-6)
    assert found["mae"] == pytest.approx(np.abs(guess - MASS).mean(), rel=1e-6)
    scores = build_scorer(net, 1, "regression")(np.zeros((2, 1), np.float32))
    assert scores.numpy().dtype == np.float32


@pytest.mark.parametrize("size", [1e-42, 1e-8, 1e5, 1e39])
def test_keras_trains_in_half_precision_with_weights_of_any_size(policy, size):
    """Weights of 1e5 or 1e-8 gave NaN."""
    import tensorflow as tf

    from hepdata_adapters.tf.training.losses import EventLoss
    from hepdata_adapters.tf.training.models import feed_forward

    policy("mixed_float16")
    net = feed_forward(1, hidden=(4,))
    assert net.outputs[0].dtype == "float32"
    net.compile("adam", loss=EventLoss("binary"), jit_compile=False)
    rows = np.ones((8, 1), np.float32), np.arange(8) % 2, np.full(8, size)
    history = net.fit(tf.data.Dataset.from_tensors(rows), shuffle=False, verbose=0)
    assert 0.3 < history.history["loss"][0] < 3
    assert all(np.isfinite(values).all() for values in net.get_weights())


@pytest.mark.parametrize(("size", "said"), [(1e39, "too large"), (1e-42, "too small")])
def test_a_cast_that_loses_the_value_of_a_weight_is_refused(tmp_path: Path, size, said):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from hepdata_adapters.tf import root_dataset

    path = tmp_path / "w.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"x": np.arange(8.0), "w": np.array([0.0, *[size] * 7])}
    config = DatasetConfig(
        samples=[{"files": str(path), "label": 1, "weight": "w"}], features=["x"]
    )
    options: Any = {"batch_size": 8, "shuffle": False, "progress": False}
    (batch,) = root_dataset(config, **options)
    assert batch["weight"].numpy().tolist() == [0.0, *[size] * 7]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{said} for float32"):
        list(root_dataset(config, cast={"weight": "float32"}, **options))
