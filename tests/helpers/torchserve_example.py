"""A small PyTorch model with every kind of feature, and events that try it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepdata_adapters.common.transform.pipeline import ScoreFunction, Transform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.answers import predict_events
from hepdata_serving.torchserve.export import export_torchserve
from tests.helpers.example_model import event_of, model_of, transform_of


def example_transform() -> Transform:
    """See `transform_of`; with a number of jets."""
    return transform_of(
        0.0, FeatureTransform(branch="nJet", kind="flat", dtype="int32", width=1, center=3.0)
    )


class ExampleScorer(torch.nn.Module):
    """A seeded net: ``x (n, d)`` to ``(n,)`` in (0, 1), or to ``(n, classes)`` that sum to 1."""

    def __init__(self, num_features: int, classes: int = 1, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = torch.nn.Sequential(
                torch.nn.Linear(num_features, 32),
                torch.nn.BatchNorm1d(32),
                torch.nn.ReLU(),
                torch.nn.Dropout(0.5),
                torch.nn.Linear(32, classes),
            )
        self.classes = classes
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.net(x)
        return scores.softmax(1) if self.classes > 1 else scores.squeeze(1).sigmoid()


def eager(scorer: torch.nn.Module) -> ScoreFunction:
    """The scorer itself as a function of arrays: what exported copies are compared with."""

    def score(x: Any) -> Any:
        with torch.inference_mode():
            return scorer(torch.from_numpy(x)).numpy()

    return score


def example_events(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Events as a client has them: with NaN and infinity where allowed, empty and long lists."""
    rng = np.random.default_rng(seed)
    events: list[dict[str, Any]] = []
    for number in range(n):
        jets = rng.exponential(40, rng.poisson(3)).astype(np.float32).tolist()
        met = float(np.float32(rng.exponential(50)))
        if number % 7 == 0:
            jets = []
        if number % 11 == 0:
            jets = [*jets, float("nan"), *rng.exponential(40, 30).astype(np.float32).tolist()]
        if number % 5 == 0:
            met = float("nan") if number % 2 else float("inf")
        event = event_of(rng, met, {"nJet": len(jets)}, jets)
        events.append(event | {"not_a_feature": "ignored"})
    return events


def export_example(
    directory: Path, name: str = "example", *, classes: int = 1, seed: int = 0, **changes: Any
) -> Path:
    """Export an `ExampleScorer`; ``changes`` replace fields of its `Exportable`."""
    transform = example_transform()
    scorer = ExampleScorer(transform.num_features, classes, seed)
    events = example_events(8, seed)
    predictions = predict_events(events, transform, eager(scorer))
    model = model_of(name, scorer, transform, classes, events, predictions)
    return export_torchserve(directory, replace(model, **changes))
