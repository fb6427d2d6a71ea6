"""Objects of events in the forms that the backends take them, for tests of sets and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import torch

from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.tf.transform.expressions import Padded as TfPadded
from hepdata_adapters.torch.transform.expressions import Padded


def object_columns(events: Sequence[Sequence[Any]], dtypes: Mapping[str, Any]) -> Columns:
    """Events of objects, each a tuple of values, as one jagged column a value."""
    return {
        name: Jagged.from_lists([[values[i] for values in event] for event in events], dtype)
        for i, (name, dtype) in enumerate(dtypes.items())
    }


def padded(columns: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dense values, behind the lengths what must not be looked at, in different widths."""
    found = {}
    for number, (name, column) in enumerate(columns.items()):
        width = int(column.lengths.max(initial=0)) + number
        garbage = np.nan if column.dtype.kind == "f" else 1
        values = np.full((len(column), width), garbage, column.dtype)
        values[np.arange(width) < column.lengths[:, None]] = column.content
        found[name] = (values, column.lengths)
    return found


def in_torch(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {k: Padded(*map(torch.from_numpy, both)) for k, both in padded(columns).items()}


def in_tf(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {k: TfPadded(*map(tf.constant, both)) for k, both in padded(columns).items()}


def good_rows(columns: Columns, transform: Any) -> Any:
    """The events that the transform takes."""
    n = len(next(iter(columns.values())))
    return np.setdiff1d(np.arange(n), [fault.row for fault in transform.faults(columns)])
