"""Labels and weights of events, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sample, Task
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import DataError, InvalidValueError
from hepdata_adapters.common.files.manifest import FileInfo


def target_branches(sample: Sample) -> list[str]:
    """The branches of label and weight, where they are branches."""
    return [name for name in (sample.label, sample.weight.branch) if isinstance(name, str)]


def one_each(column: Column) -> NDArray[Any]:
    """The values of a column that has one an event, ``(n,)``."""
    return column.content if isinstance(column, Jagged) else column


def labels_of(
    sample: Sample,
    task: Task,
    file: FileInfo,
    columns: Mapping[str, Column],
    rows: NDArray[np.int64],
    start: int,
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Labels of the ``rows`` of a unit that starts at entry ``start``, ``(n,)``.

    Raises InvalidValueError for NaN, and for a class that is not a whole number from 0.
    """
    if not isinstance(sample.label, str):
        return np.full(len(rows), sample.label, dtype)
    values = _flat(columns[sample.label])[rows]
    if task == "regression":
        bad, wish = ~np.isfinite(values), "a finite number"
    else:
        bad = ~np.isfinite(values) | (values < 0) | (values % 1 != 0)
        wish = "a class number 0, 1, 2, …"
        if task == "binary":
            bad |= values > 1
            wish = "0 or 1"
    _refuse(bad, values, f"the label must be {wish}", file, sample.label, rows, start)
    return values.astype(dtype)


def weights_of(
    sample: Sample,
    file: FileInfo,
    columns: Mapping[str, Column],
    rows: NDArray[np.int64],
    start: int,
) -> NDArray[np.float64]:
    """Event weights, ``(n,)`` float64, sign kept; raises InvalidValueError for NaN and infinity."""
    name = sample.weight.branch
    if name is None:
        return np.full(len(rows), sample.weight.constant)
    values = _flat(columns[name])[rows]
    _refuse(~np.isfinite(values), values, "the weight must be finite", file, name, rows, start)
    return values.astype(np.float64) * sample.weight.constant


def _flat(column: Column) -> NDArray[Any]:
    values = one_each(column)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def _refuse(
    bad: NDArray[np.bool_],
    values: NDArray[Any],
    rule: str,
    file: FileInfo,
    branch: str,
    rows: NDArray[np.int64],
    start: int,
) -> None:
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        entry = int(rows[first]) + start
        raise InvalidValueError(
            f"{rule}, not {values[first]}",
            file=file.url, tree=file.tree, branch=branch, entries=(entry, entry + 1),
        )  # fmt: skip


def check_classes(label: Any, task: Task, num_classes: int) -> None:
    """Raise DataError for a class above those that the model has. label: an array or tensor."""
    if task == "multiclass" and len(label) and int(label.max()) >= num_classes:
        raise DataError(
            f"there is an event of class {int(label.max())}, but the training split has only "
            f"classes 0 to {num_classes - 1}: change split.seed, or drop the class"
        )
