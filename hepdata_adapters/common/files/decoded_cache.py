"""Decoded pages, baskets and units, kept as long as they are among those used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from hepdata_adapters.common.core.machine import return_memory

Arrays = tuple[NDArray[Any], ...]

LARGE = 32_768
"""Numbers in a page, or entries in a basket, that are worth to be kept at all."""
HOLES = 64 * 2**20
"""Bytes that are let go before the system gets what is free of them."""
RANGES = 4
"""How many ranges must find something in a page or basket that is kept."""


def worth_keeping(size: int, wanted: int) -> bool:
    """Whether what is decoded serves several entry ranges more: else the room is better for units.

    size: its numbers or entries. wanted: all those of the range, of which some may lie elsewhere.

    >>> [worth_keeping(size, 16_384) for size in (2_000_000, 60_000, 20_000)]
    [True, False, False]
    """
    return size >= LARGE and size >= RANGES * wanted


class DecodedCache:
    """What was used last, within bounds: decoded pages and baskets, and units made of them.

    Threads may share it. owner: whose key it is, such as the open tree; `forget` it before it goes.

    >>> import numpy as np
    >>> cache, tree = DecodedCache(100), object()
    >>> cache.keep(tree, (0, 1), (np.zeros(8),))
    >>> cache.cached_bytes, cache.get(tree, (0, 2)) is None
    (64, True)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes, self._let_go = max_bytes, 0, 0
        self._kept: OrderedDict[tuple[int, Hashable], tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    @property
    def cached_bytes(self) -> int:
        return self._bytes

    def bytes_of(self, owner: object) -> int:
        """Those of one owner."""
        with self._lock:
            return sum(size for key, (_, size) in self._kept.items() if key[0] == id(owner))

    def get(self, owner: object, key: Hashable) -> Any:
        """What was kept, or None."""
        with self._lock:
            if (id(owner), key) not in self._kept:
                return None
            self._kept.move_to_end((id(owner), key))
            return self._kept[id(owner), key][0]

    def first_to_go(self, owner: object, key: Hashable) -> None:
        """Let something go before all else, as nobody is about to ask for it."""
        with self._lock:
            if (id(owner), key) in self._kept:
                self._kept.move_to_end((id(owner), key), last=False)

    def keep(self, owner: object, key: Hashable, arrays: Arrays) -> None:
        """Keep arrays that nobody writes to; more than there is room for are not kept."""
        size = sum(array.nbytes for array in arrays)
        if size <= self._max_bytes:
            self.keep_last(owner, key, arrays, size)

    def keep_last(self, owner: object, key: Hashable, value: object, size: int) -> None:
        """Keep what nobody changes, of any size: the last is there until the next one comes."""
        with self._lock:
            if (id(owner), key) in self._kept:
                return
            self._kept[id(owner), key] = (value, size)
            self._bytes += size
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                oldest = self._kept.popitem(last=False)[1][1]
                self._bytes -= oldest
                self._let_go += oldest
            returned = self._let_go >= HOLES
            self._let_go = 0 if returned else self._let_go
        if returned:
            return_memory()

    def forget(self, owner: object) -> None:
        """Drop all that is of an owner."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == id(owner)]:
                self._bytes -= self._kept.pop(key)[1]
