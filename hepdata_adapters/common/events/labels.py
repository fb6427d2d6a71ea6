"""Labels of events, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sample, Task
from hepdata_adapters.common.core.columns import Column
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.events.targets import flat_values, refuse_values
from hepdata_adapters.common.files.manifest import FileInfo


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
    values = flat_values(columns[sample.label])[rows]
    if task == "regression":
        bad, wish = ~np.isfinite(values), "a finite number"
    else:
        bad = ~np.isfinite(values) | (values < 0) | (values % 1 != 0)
        wish = "a class number 0, 1, 2, …"
        if task == "binary":
            bad |= values > 1
            wish = "0 or 1"
    refuse_values(bad, values, f"the label must be {wish}", file, sample.label, rows, start)
    return values.astype(dtype)


def check_classes(label: Any, task: Task, num_classes: int) -> None:
    """Raise DataError for a class above those that the model has. label: an array or tensor."""
    if task == "multiclass" and len(label) and int(label.max()) >= num_classes:
        raise DataError(
            f"there is an event of class {int(label.max())}, but the training split has only "
            f"classes 0 to {num_classes - 1}: change split.seed, or drop the class"
        )
