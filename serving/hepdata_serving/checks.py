"""Checks of what an export is given, the same for every kind of server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.object_features import ObjectFeatures
from hepdata_adapters.common.transform.pipeline import ScoreFunction, Transform
from hepdata_adapters.common.transform.scaling import ValueScaling
from hepdata_adapters.common.transform.scalings import Registered
from hepdata_serving.errors import ExportError

_TASKS = ("binary", "multiclass", "regression")


def check_task(task: str, outputs: Sequence[str]) -> None:
    """Raise ConfigError for an unknown task, or names of outputs that do not fit it.

    >>> check_task("binary", ["signal", "background"])
    Traceback (most recent call last):
    ...
    hepdata_adapters.common.core.errors.ConfigError: outputs of a binary model are one name, not 2
    """
    if task not in _TASKS:
        raise ConfigError(f"task {task!r} is not one of {', '.join(_TASKS)}")
    wanted = "two or more names" if task == "multiclass" else "one name"
    if (len(outputs) > 1) != (task == "multiclass") or not outputs:
        raise ConfigError(f"outputs of a {task} model are {wanted}, not {len(outputs)}")


def needed(event: Mapping[str, Any], transform: Transform) -> dict[str, Any]:
    """The branches that the transform uses, as far as the event has them."""
    branches = [branch.name for branch in transform.branches]
    return {branch: event[branch] for branch in branches if branch in event}


def check_exportable(transform: Transform) -> None:
    """Raise ExportError for a representation that no exported model can take.

    The number of values of a ragged array is another one in each request, and a graph has one
    number of events for all its inputs.
    """
    for name, values in transform.empty.items():
        if isinstance(values, Jagged):
            raise ExportError(
                f"inputs: {name!r} is ragged, and an exported model takes dense inputs only: "
                f"use a set (or an image that is not sparse)"
            )


def user_functions(transform: Transform) -> list[tuple[ValueScaling, str]]:
    """The features that go through a function of the user's, and its name."""
    features: list[ValueScaling] = list(transform.features)
    for made in transform.inputs.values():
        features += made.features if isinstance(made, ObjectFeatures) else ()
    return [(f, f.function.name) for f in features if isinstance(f.function, Registered)]


def check_no_user_functions(transform: Transform) -> None:
    """Raise ExportError for a scaling function of the user's, which no archive of ours holds."""
    for feature, name in user_functions(transform):
        raise ExportError(
            f"feature {feature.branch!r} is scaled by the function {name!r}, and the code that "
            "registers it is not part of the archive: export with --format onnx, which makes the "
            "function part of the graph, or write it as an expression of the feature"
        )


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


def check_scores(score: ScoreFunction, transform: Transform, classes: int | None) -> None:
    """Refuse a model whose scores have another shape than its task says, also for one event.

    classes: None for one score an event. Raises ExportError.
    """
    for n in (1, 2, 5):
        scores = score(transform.zeros(n))
        expected = (n,) if classes is None else (n, classes)
        if scores.shape != expected or scores.dtype != np.float32:
            raise ExportError(
                f"the scorer gives {scores.dtype} {scores.shape} for {n} events, not float32 "
                f"{expected}; squeeze(1) a single output, and name every class in outputs"
            )
