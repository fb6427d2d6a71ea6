"""In which events values are missing, whatever their split.

Statistics come from training events alone. That a value is missing elsewhere (NaN or infinity)
decides no number of the transform, but what has to be settled before a training begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.specs.value_kernels import missing_rows, missing_values


def missing_events(column: Column, rows: NDArray[np.int64]) -> int:
    """Of the events ``rows`` those with a missing value.

    >>> missing_events(np.array([1.0, np.nan, np.inf]), np.array([0, 1]))
    1
    """
    content = column.content if isinstance(column, Jagged) else column
    if content.dtype.kind != "f":
        return 0
    width = np.dtype(f"u{content.dtype.itemsize}")
    bits = np.ascontiguousarray(content).reshape(-1).view(width)
    exponent = np.array(np.inf, content.dtype).view(width)[()]
    if not missing_values(bits, exponent):
        return 0
    if isinstance(column, Jagged):
        edges = column.offsets
    else:
        edges = np.arange(len(column) + 1) * (len(bits) // len(column))
    return missing_rows(bits, exponent, edges[:-1], edges[1:], rows)


def summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The counts of both."""
    return dict(Counter(one) + Counter(other))
