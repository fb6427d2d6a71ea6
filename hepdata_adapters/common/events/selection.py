"""Which events count, and for what: the selection of their sample first, then the split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import Split
from hepdata_adapters.common.core.columns import Column, Jagged, rows_with
from hepdata_adapters.common.events.layout import Drop, Layout
from hepdata_adapters.common.events.split import split_codes
from hepdata_adapters.common.files.manifest import FileInfo

NOT_SELECTED = -1
DROPPED = -2  # by the first of the layout's drops; by the second -3, and so on


def deciding_branches(layout: Layout, sample: int) -> tuple[str, ...]:
    """The branches to read that decide which events of a sample count, and for what."""
    selection = layout.selections[sample]
    names = [*layout.identity, *sorted(selection.names if selection else ())]
    return tuple(dict.fromkeys([*names, *(drop.branch for drop in layout.drops)]))


def member_codes(
    split: Split,
    layout: Layout,
    file: FileInfo,
    start: int,
    stop: int,
    columns: Mapping[str, Column],
) -> NDArray[np.int64]:
    """The split of entries ``start`` to ``stop``, ``(n,)``: an index into `SPLITS`, or below 0.

    -1 is an event that the selection of its sample does not let pass, -2 and below one that the
    policy of a feature leaves out (see `Layout.drops`).
    """
    codes = split_codes(split, layout.identity, file, start, stop, columns)
    return selected(codes, layout, file.sample, columns)


def selected(
    codes: NDArray[np.int64], layout: Layout, sample: int, columns: Mapping[str, Column]
) -> NDArray[np.int64]:
    """The codes of events of a sample, ``(n,)``, with those that do not count as below 0."""
    selection = layout.selections[sample]
    if selection is not None:
        codes = np.where(selection.selects(columns), codes, NOT_SELECTED)
    for number, drop in enumerate(layout.drops):
        codes = np.where((codes >= 0) & leaves_out(drop, columns), DROPPED - number, codes)
    return codes


def refused_events(
    layout: Layout, codes: NDArray[np.int64], columns: Mapping[str, Column]
) -> list[int]:
    """Of the selected events, those that each drop of the layout refuses.

    An event that several refuse counts in each, other than in the ``codes`` of `member_codes`.
    """
    selected = codes != NOT_SELECTED
    return [int((selected & leaves_out(drop, columns)).sum()) for drop in layout.drops]


def leaves_out(drop: Drop, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
    """Events that a policy leaves out, ``(n,)``."""
    column = columns[drop.branch]
    if drop.length is not None:
        lengths = column.lengths if isinstance(column, Jagged) else np.full(len(column), 1)
        return np.asarray(lengths > drop.length)
    content = column.content if isinstance(column, Jagged) else column
    return np.asarray(rows_with(column, ~np.isfinite(content)))
