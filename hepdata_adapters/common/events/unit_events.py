"""The events of a unit: which of them count, and for what, with their labels and weights.

Every pass over the events asks here. A unit is an entry range of a file that is read at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
from hepdata_adapters.common.core.columns import Columns
from hepdata_adapters.common.events.labels import labels_of
from hepdata_adapters.common.events.layout import Layout
from hepdata_adapters.common.events.selection import member_codes
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.events.weights import weights_of
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.source import Source

WHOLE = np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class Unit:
    """A unit as it was read: the columns of entries ``start`` to ``stop`` of a file."""

    file: FileInfo
    start: int
    stop: int
    columns: Columns

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self.stop - self.start

    @property
    def entries(self) -> NDArray[np.int64]:
        """All of them, ``(size,)`` int64."""
        return np.arange(self.start, self.stop)


def read_unit(source: Source | None, file: FileInfo, number: int, *, keep: bool = False) -> Unit:
    """Unit ``number`` of a file with the branches of ``source``; None reads nothing.

    keep: the source keeps the columns, within its bounds, and may have them already.
    Raises the errors of reading.
    """
    start, stop = file.units[number : number + 2].tolist()
    if source is None:
        return Unit(file, start, stop, {})
    columns = source.unit(file, number) if keep else source.read(file, start, stop)
    return Unit(file, start, stop, columns)


def read_units(source: Source, file: FileInfo) -> Iterator[Unit]:
    """All units of a file in order."""
    return (read_unit(source, file, number) for number in range(len(file.units) - 1))


@dataclass(frozen=True, eq=False)
class UnitEvents:
    """n events of a unit. What they are is found when it is first asked for, once.

    dtype: of the labels. index: ``(n,)`` int64, the row of each event in the columns, again for
    each time that it is drawn; None for all entries in order.
    """

    unit: Unit
    config: DatasetConfig
    layout: Layout
    dtype: np.dtype[Any] = WHOLE
    index: NDArray[np.int64] | None = None

    @property
    def sample(self) -> Sample:
        return self.config.samples[self.unit.file.sample]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row of each event in the columns, ``(n,)`` int64."""
        return np.arange(self.unit.size) if self.index is None else self.index

    @property
    def entries(self) -> NDArray[np.int64]:
        """The entry of each event in its tree, ``(n,)`` int64."""
        return self.rows + self.unit.start

    def identity(self, number: int) -> NDArray[np.int64]:
        """File and entry of each event, ``(n, 2)`` int64. number: of the file in the manifest."""
        entries = self.entries
        return np.stack([np.full(len(entries), number), entries], axis=1).astype(np.int64)

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """What each entry of the unit counts for, ``(stop - start,)``, see `member_codes`."""
        unit = self.unit
        return member_codes(
            self.config.split, self.layout, unit.file, unit.start, unit.stop, unit.columns
        )

    @cached_property
    def labels(self) -> NDArray[Any]:
        """The label of each event, ``(n,)``; the config has to give them. See `labels_of`."""
        unit, task = self.unit, self.layout.task
        assert task is not None  # noqa: S101 (callers ask for the task first)
        return labels_of(
            self.sample, task, unit.file, unit.columns, self.rows, unit.start, self.dtype
        )

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """The weight of each event, ``(n,)`` float64, see `weights_of`."""
        unit = self.unit
        return weights_of(self.sample, unit.file, unit.columns, self.rows, unit.start)

    def of(self, split: SplitName | None) -> UnitEvents:
        """Those that are selected and belong to a split, or to any."""
        codes = self.codes if self.index is None else self.codes[self.index]
        inside = codes >= 0 if split is None else codes == SPLITS.index(split)
        return self.taken(np.flatnonzero(inside))

    def taken(self, which: NDArray[np.int64] | slice) -> UnitEvents:
        """Some of the events, in that order, with all that is known of them."""
        made = replace(self, index=self.rows[which])
        known, new = vars(self), vars(made)  # where a cached_property is kept
        if "codes" in known:
            new["codes"] = known["codes"]
        new |= {name: known[name][which] for name in ("labels", "weights") if name in known}
        return made
