"""What labels and weights share: the branches that they are, one value an event, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import InvalidValueError
from hepdata_adapters.common.files.manifest import FileInfo


def target_branches(sample: Sample) -> list[str]:
    """The branches of label and weight, where they are branches."""
    return [name for name in (sample.label, sample.weight.branch) if isinstance(name, str)]


def one_each(column: Column) -> NDArray[Any]:
    """The values of a column that has one an event, ``(n,)``."""
    return column.content if isinstance(column, Jagged) else column


def flat_values(column: Column) -> NDArray[Any]:
    """The values ``(n,)`` of a branch, those of flags as numbers."""
    values = one_each(column)
    return values.astype(np.uint8) if values.dtype.kind == "b" else values


def refuse_values(
    bad: NDArray[np.bool_],
    values: NDArray[Any],
    rule: str,
    file: FileInfo,
    branch: str,
    rows: NDArray[np.int64],
    start: int,
) -> None:
    """Raise InvalidValueError for the first bad value. rows: in a unit that begins at ``start``."""
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        entry = int(rows[first]) + start
        raise InvalidValueError(
            f"{rule}, not {values[first]}",
            file=file.url, tree=file.tree, branch=branch, entries=(entry, entry + 1),
        )  # fmt: skip
