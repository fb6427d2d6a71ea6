"""A small Keras model with every kind of feature, and events that try it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.tfserving.export import export_tfserving
from tests.helpers.example_model import event_of, model_of, transform_of


def small_transform() -> Transform:
    """See `transform_of`; with integers that float32 cannot hold."""
    return transform_of(
        20.0,
        FeatureTransform(
            branch="event_number", kind="flat", dtype="int64", width=1, center=2.0**53
        ),
    )


def small_events(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Events as a client has them: with NaN and infinity where allowed, empty and long lists."""
    rng = np.random.default_rng(seed)
    events: list[dict[str, Any]] = []
    for number in range(n):
        jets = rng.exponential(40, rng.poisson(3) if number % 7 else 0).astype(np.float32).tolist()
        if number % 5 == 0:
            jets += [float("nan"), *rng.exponential(40, 9).astype(np.float32).tolist()]
        met = float("nan") if number % 4 == 3 else float(np.float32(rng.exponential(50)))
        number_of_event = {"event_number": 2**53 + int(rng.integers(5))}
        events.append(event_of(rng, met, number_of_event, jets))
    return events


def small_scorer(num_features: int, classes: int = 1, seed: int = 0) -> keras.Model:
    """A seeded net: ``(n, d)`` to ``(n,)`` in (0, 1), or to ``(n, classes)`` that sum to 1."""
    initializer = keras.initializers.GlorotUniform(seed=seed)
    last = (
        [keras.layers.Dense(classes, "softmax", kernel_initializer=initializer)]
        if classes > 1
        else [
            keras.layers.Dense(1, "sigmoid", kernel_initializer=initializer),
            keras.layers.Reshape(()),
        ]
    )
    return keras.Sequential(
        [
            keras.Input((num_features,)),
            keras.layers.Dense(8, "relu", kernel_initializer=initializer),
            keras.layers.Dropout(0.5),
            *last,
        ]
    )


def offline(scorer: Any, transform: Transform, events: list[dict[str, Any]]) -> list[Any]:
    """Predictions by the numpy transform and the scorer itself: what a server must answer."""
    columns, faults = columns_from_events(events, transform)
    if faults:
        raise AssertionError(faults)
    predictions: list[Any] = (
        scorer(transform(transform.prepare(columns)).arrays["x"]).numpy().tolist()
    )
    return predictions


def small_export(
    directory: Path, name: str = "tth", classes: int = 1, versions: int = 1, **changes: Any
) -> Path:
    """Export a `small_scorer` ``versions`` times, seeded by its version; returns the last.

    ``changes`` replace fields of its `Exportable`.
    """
    transform = small_transform()
    events = small_events(8)
    path = directory
    for seed in range(versions):
        scorer = small_scorer(transform.num_features, classes, seed)
        predictions = offline(scorer, transform, events)
        model = model_of(name, scorer, transform, classes, events, predictions)
        path = export_tfserving(directory, replace(model, **changes))
    return path
