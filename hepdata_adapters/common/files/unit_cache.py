"""Which prepared columns of units are kept: those used last, and those that later epochs find.

An epoch uses a unit for a few chunks in a row, which is what `RecentUnits` is for. It comes to all
units before it comes back to one, so that the one used last is the wrong one to keep for the next
epoch where not all fit: `MemoryUnits` keeps what came first, and `unit_folder` does so on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import numpy as np

from hepdata_adapters.common.core.columns import Array, Column, Columns, Jagged, held_bytes
from hepdata_adapters.common.files.decoded_cache import DecodedCache
from hepdata_adapters.common.files.manifest import FileInfo

MOST_UNUSED = 1.25
"""Memory that columns keep alive, in parts of what they use themselves."""


@dataclass(frozen=True, eq=False)
class UnitKey:
    """Unit ``number`` of a file, and the prepared columns that are asked for, in their order."""

    file: FileInfo
    number: int
    branches: tuple[str, ...]

    @property
    def entries(self) -> tuple[int, int]:
        """The first one and the one after the last."""
        start, stop = self.file.units[self.number : self.number + 2].tolist()
        return start, stop

    @property
    def place(self) -> tuple[tuple[str, ...], str, str, int]:
        """What tells it from all others of a data set."""
        return (self.branches, self.file.url, self.file.tree, self.number)


class Units(Protocol):
    """Keeps columns of units beyond an epoch. Threads may share it.

    in_memory: whether they take the memory of this process.
    """

    in_memory: bool

    def get(self, key: UnitKey) -> Columns | None:
        """The columns, if they are here."""

    def keep(self, key: UnitKey, columns: Columns) -> bool:
        """Keep columns that nobody writes to; returns whether there was room for them."""


class RecentUnits:
    """Those used last, in the bounds of a cache that pages and baskets share with them."""

    def __init__(self, cache: DecodedCache) -> None:
        self._cache = cache

    def get(self, key: UnitKey) -> Columns | None:
        """The columns, if they are here."""
        found: Columns | None = self._cache.get(self, key.place)
        return found

    def keep(self, key: UnitKey, columns: Columns) -> None:
        """Keep columns, and let go of what was not used for the longest time."""
        self._cache.keep_last(self, key.place, columns, held_bytes(columns))

    def first_to_go(self, key: UnitKey) -> None:
        """Let a unit go before all else."""
        self._cache.first_to_go(self, key.place)

    @property
    def held(self) -> int:
        """Bytes of the units."""
        return self._cache.bytes_of(self)

    def clear(self) -> None:
        """Forget all of them."""
        self._cache.forget(self)


class MemoryUnits:
    """Those that came first, up to a limit in bytes, for as long as it lives.

    >>> import numpy as np
    >>> from types import SimpleNamespace as File
    >>> file = File(url="a.root", tree="Events")
    >>> units = MemoryUnits(8)
    >>> units.keep(UnitKey(file, 0, ("MET",)), {"MET": np.zeros(1)})
    True
    >>> units.keep(UnitKey(file, 1, ("MET",)), {"MET": np.zeros(1)}), units.held
    (False, 8)
    """

    in_memory = True

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self._kept: dict[object, Columns] = {}
        self._lock = Lock()

    def get(self, key: UnitKey) -> Columns | None:
        return self._kept.get(key.place)

    def keep(self, key: UnitKey, columns: Columns) -> bool:
        columns = apart(columns)
        size, place = held_bytes(columns), key.place
        with self._lock:
            if place in self._kept:
                return True
            if self.held + size > self.limit:
                return False
            self._kept[place] = columns
            self.held += size
            return True


class UnitCache:
    """What a reader asks before it reads: the recent units, then those that are kept for later."""

    def __init__(self, recent: RecentUnits, kept: Units | None = None) -> None:
        self.recent, self._kept = recent, kept

    @property
    def lasting(self) -> bool:
        """Whether others than this process will find what is kept."""
        return self._kept is not None and not self._kept.in_memory

    def get(self, key: UnitKey) -> Columns | None:
        """The columns, if they are anywhere."""
        found = self.recent.get(key)
        if found is None and self._kept is not None:
            found = self._kept.get(key)
            if found is not None and self.lasting:
                self.recent.keep(key, found)
        return found

    def keep(self, key: UnitKey, columns: Columns) -> None:
        """Keep columns that were read; nobody may write to them."""
        kept = self._kept is not None and self._kept.keep(key, columns)
        if self.lasting or not kept:
            self.recent.keep(key, columns)


def apart(columns: Columns) -> Columns:
    """The columns, copied if they are parts of memory that is larger than all of them.

    >>> import numpy as np
    >>> page = np.zeros(1000)
    >>> [apart({"MET": page[:size]})["MET"].base is page for size in (10, 990)]
    [False, True]
    """
    arrays = {id(array): array for column in columns.values() for array in _arrays(column)}
    roots = {id(root): root.nbytes for root in map(_root, arrays.values())}
    if sum(roots.values()) <= MOST_UNUSED * sum(array.nbytes for array in arrays.values()):
        return columns
    own = {number: array.copy() for number, array in arrays.items()}
    return {
        name: Jagged(own[id(column.content)], own[id(column.offsets)])
        if isinstance(column, Jagged)
        else own[id(column)]
        for name, column in columns.items()
    }


def _arrays(column: Column) -> tuple[Array, ...]:
    return (column.content, column.offsets) if isinstance(column, Jagged) else (column,)


def _root(array: Array) -> Array:
    """The array whose memory this one is a part of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
