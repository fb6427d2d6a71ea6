"""Checks of what an export is given, the same for every kind of server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_serving.answers import Score
from hepdata_serving.errors import ExportError

_TASKS = ("binary", "multiclass", "regression")


def check_task(task: str, outputs: Sequence[str]) -> None:
    """Raise ConfigError for an unknown task, or names of outputs that do not fit it.

    >>> check_task("binary", ["signal", "background"])
    Traceback (most recent call last):
    ...
    hepdata_adapters.common.errors.ConfigError: outputs of a binary model are one name, not 2
    """
    if task not in _TASKS:
        raise ConfigError(f"task {task!r} is not one of {', '.join(_TASKS)}")
    wanted = "two or more names" if task == "multiclass" else "one name"
    if (len(outputs) > 1) != (task == "multiclass") or not outputs:
        raise ConfigError(f"outputs of a {task} model are {wanted}, not {len(outputs)}")


def needed(event: Mapping[str, Any], transform: VectorTransform) -> dict[str, Any]:
    """The branches that the transform uses, as far as the event has them."""
    branches = [feature.branch for feature in transform.features]
    return {branch: event[branch] for branch in branches if branch in event}


def golden_values(events: Sequence[Any], predictions: Sequence[Any]) -> list[Any]:
    """The predictions as Python floats. Raises ConfigError if they cannot be golden ones."""
    if not events:
        raise ConfigError("golden_events is empty: give a few raw events with their predictions")
    if len(events) != len(predictions):
        raise ConfigError(f"{len(events)} golden events but {len(predictions)} predictions")
    for number, prediction in enumerate(predictions):
        if not np.isfinite(np.asarray(prediction, np.float64)).all():
            raise ConfigError(f"golden prediction {number} is not a finite number: {prediction!r}")
    return [np.asarray(prediction, np.float64).tolist() for prediction in predictions]


def check_scores(score: Score, num_features: int, classes: int | None) -> None:
    """Refuse a model whose scores have another shape than its task says, also for one event.

    classes: None for one score an event. Raises ExportError.
    """
    for n in (1, 2, 5):
        scores = score(np.zeros((n, num_features), np.float32))
        expected = (n,) if classes is None else (n, classes)
        if scores.shape != expected or scores.dtype != np.float32:
            raise ExportError(
                f"the scorer gives {scores.dtype} {scores.shape} for {n} events, not float32 "
                f"{expected}; squeeze(1) a single output, and name every class in outputs"
            )
