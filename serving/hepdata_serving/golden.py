"""Golden examples: raw events with the predictions a correctly loaded model gives for them.

They travel inside every archive. A server that does not reproduce them must not answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hepdata_adapters.common.inference.raw_events import without_nan
from hepdata_serving.errors import ArchiveError

TOLERANCE = 1e-6
"""Largest deviation: absolute for values within ±1, relative for larger ones.

Kernels round float32 differently for other batch sizes and processors, by a few 1e-7.
"""


def golden_text(events: Sequence[Mapping[str, Any]], predictions: Sequence[Any]) -> str:
    """The examples as strict JSON, the same text for the same examples."""
    content = {"events": without_nan(list(events)), "predictions": list(predictions)}
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def check_golden(
    events: Sequence[Mapping[str, Any]],
    expected: Sequence[Any],
    predict: Callable[[Sequence[object]], Sequence[Any]],
) -> None:
    """Raise ArchiveError when a prediction is not the expected one within `TOLERANCE`.

    >>> check_golden([{"x": 1}], [0.5], lambda events: [0.7])
    Traceback (most recent call last):
    ...
    hepdata_serving.errors.ArchiveError: golden event 0: the model predicts 0.7, not 0.5
    """
    predicted = predict(events)
    if len(predicted) != len(expected):
        raise ArchiveError(f"{len(events)} golden events gave {len(predicted)} predictions")
    for number, (value, wanted) in enumerate(zip(predicted, expected, strict=True)):
        got, want = np.asarray(value, np.float64), np.asarray(wanted, np.float64)
        if got.shape == want.shape:
            # written so that NaN on either side is a mismatch
            close = np.abs(got - want) <= TOLERANCE * np.maximum(1.0, np.abs(want))
            if close.all():
                continue
        raise ArchiveError(f"golden event {number}: the model predicts {value}, not {wanted}")
