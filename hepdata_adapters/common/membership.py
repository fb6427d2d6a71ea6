"""Which events count, and for what: the selection of their sample first, then the split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.columns import Column
from hepdata_adapters.common.config import Split
from hepdata_adapters.common.features import Layout
from hepdata_adapters.common.manifest import FileInfo
from hepdata_adapters.common.split import split_codes

NOT_SELECTED = -1


def deciding_branches(layout: Layout, sample: int) -> tuple[str, ...]:
    """The branches to read that decide which events of a sample count, and for what."""
    selection = layout.selections[sample]
    return tuple(dict.fromkeys([*layout.identity, *sorted(selection.names if selection else ())]))


def member_codes(
    split: Split,
    layout: Layout,
    file: FileInfo,
    start: int,
    stop: int,
    columns: Mapping[str, Column],
) -> NDArray[np.int64]:
    """The split of entries ``start`` to ``stop``, ``(n,)``: an index into `SPLITS`, or -1.

    -1 is an event that the selection of its sample does not let pass.
    """
    codes = split_codes(split, layout.identity, file, start, stop, columns)
    selection = layout.selections[file.sample]
    if selection is not None:
        codes = np.where(selection.selects(columns), codes, NOT_SELECTED)
    return codes
