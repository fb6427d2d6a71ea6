"""What is known of all events, whatever their split: missing values, and the highest class.

Statistics come from training events alone. That a value is missing elsewhere (NaN or infinity),
or that there is a class that no training event has, decides no number of the transform, but what
has to be settled before a training begins, not after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.columns import Column, Jagged
from hepdata_adapters.common.config import Sample
from hepdata_adapters.common.split import SPLITS, SplitName

_Name = TypeVar("_Name", bound=str)


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


def highest_classes(
    sample: Sample, columns: Mapping[str, Column], codes: NDArray[np.int64]
) -> dict[SplitName, int]:
    """The highest label of the events of each split, where the labels are those of a branch.

    codes: the split of each event, see `member_codes`. What is no number is left out.
    """
    if not isinstance(sample.label, str):
        return {}
    column = columns[sample.label]
    labels = (column.content if isinstance(column, Jagged) else column).astype(np.float64)
    found: dict[SplitName, int] = {}
    for code, name in enumerate(SPLITS):
        own = labels[(codes == code) & np.isfinite(labels)]
        if len(own):
            found[name] = int(min(own.max(), 2**53))
    return found


def highest(one: Mapping[_Name, int], other: Mapping[_Name, int]) -> dict[_Name, int]:
    """The larger of both, for each name."""
    return {name: max(found[name] for found in (one, other) if name in found)
            for name in {**one, **other}}  # fmt: skip


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
