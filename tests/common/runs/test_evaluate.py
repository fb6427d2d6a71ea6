"""Metrics and pictures of scored events, against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_auroc, multiclass_auroc
from torchmetrics.functional.regression import r2_score

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.common.runs.evaluate import Scored, metrics_of, score_split
from hepdata_adapters.common.stream.dataset import Dataset
from tests.helpers.samples import write_events


def scored(scores: np.ndarray, label: np.ndarray) -> Scored:
    return Scored(scores.astype(np.float32), label, np.ones(len(label)))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 60))
def test_the_auc_is_that_of_torchmetrics(seed, n):
    """Tied scores included."""
    random = np.random.default_rng(seed)
    label = random.permutation(np.arange(n) % 3)
    scores = random.integers(0, 8, (n, 3)).astype(np.float32)
    scores = (scores + 0.1) / (scores + 0.1).sum(axis=1, keepdims=True)
    both = torch.from_numpy(scores), torch.from_numpy(label)
    if n >= 3:
        found = metrics_of(scored(scores, label), "multiclass", 3)["auc"]
        assert found == pytest.approx(float(multiclass_auroc(*both, num_classes=3)), abs=1e-6)
    signal = (label == 0).astype(np.int64)
    found = metrics_of(scored(scores[:, 0], signal), "binary", 2)["auc"]
    wanted = binary_auroc(both[0][:, 0], torch.from_numpy(signal))
    assert found == pytest.approx(float(wanted), abs=1e-6)


def test_the_errors_of_a_regression():
    random = np.random.default_rng(1)
    label = random.normal(size=50)
    scores = (label + random.normal(0, 0.3, 50)).astype(np.float32)
    found = metrics_of(scored(scores, label), "regression", 1)
    wanted = float(r2_score(torch.from_numpy(scores), torch.from_numpy(label).float()))
    assert found["r2"] == pytest.approx(wanted, abs=1e-5)
    assert found["loss"] == pytest.approx(found["mse"])


def test_a_class_that_a_split_lacks_does_not_count_in_the_mean():
    label = np.array([0, 1, 0, 1])
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    assert metrics_of(scored(scores, label), "multiclass", 3)["auc"] == 1.0


def test_a_model_that_gives_nan_is_told(three_files):
    samples = [Sample(files=str(path), label=n % 2) for n, path in enumerate(three_files)]
    prepared = Dataset.prepare(DatasetConfig(samples=samples, features=["MET"]))

    def score(x: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(x)) < 3, np.nan, 0.5).astype(np.float32)

    with pytest.raises(HepDataError, match=r"NaN or infinity for 3 of \d+ test events"):
        score_split(score, prepared, "test")


def test_unscaled_integers_beyond_float32_are_refused(tmp_path):
    """Event numbers above 2**24 would lose digits without a word."""
    path = write_events(tmp_path / "a.root", 300)
    config = DatasetConfig(samples=[Sample(files=str(path))], features=["run_number"])
    Dataset.prepare(config)
    raw = config.model_copy(
        update={"defaults": config.defaults.model_copy(update={"scaling": "none"})}
    )
    with pytest.raises(ConfigError, match=r"'run_number' reaches 9007\d+.*up to 16777216"):
        Dataset.prepare(raw)
