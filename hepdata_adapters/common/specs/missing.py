"""In which events values are missing, whatever their split.

Statistics come from training events alone. That a value is missing elsewhere (NaN or infinity)
decides no number of the transform, but what has to be settled before a training begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged


def missing_events(
    columns: Mapping[str, Column], names: Iterable[str], rows: NDArray[np.int64]
) -> dict[str, int]:
    """Of the events ``rows`` those with a missing value, by branch; branches without are left out.

    >>> missing_events({"x": np.array([1.0, np.nan, np.inf]), "n": np.arange(3)}, ["x", "n"],
    ...                np.array([0, 1]))
    {'x': 1}
    """
    found = {name: _events(columns[name], rows) for name in names}
    return {name: events for name, events in found.items() if events}


def summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """The counts of both."""
    return dict(Counter(one) + Counter(other))


def _events(column: Column, rows: NDArray[np.int64]) -> int:
    content = column.content if isinstance(column, Jagged) else column
    if content.dtype.kind != "f":
        return 0
    bad = ~np.isfinite(content)
    if not bad.any():
        return 0
    if isinstance(column, Jagged):
        events = np.repeat(np.arange(len(column)), column.lengths)
        return int(np.isin(np.unique(events[bad]), rows).sum())
    return int(bad.reshape(len(content), -1)[rows].any(axis=1).sum())
