"""Decoded pages and baskets that reach beyond an entry range, kept for the next one."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from numpy.typing import NDArray

Key = tuple[int, ...]
Arrays = tuple[NDArray[Any], ...]

LARGE = 32_768
"""Numbers in a page, or entries in a basket, that are worth to be kept: two units and more."""


def worth_keeping(size: int, used: int) -> bool:
    """Whether what is decoded is large, and mostly unused: else the room is better for units.

    >>> worth_keeping(2_000_000, 16_384), worth_keeping(20_000, 3_616)
    (True, False)
    """
    return size >= LARGE and 2 * used < size


class DecodedCache:
    """Those used last, within bounds. Threads may share it.

    owner: the open tree that they are of; `forget` it before it goes.

    >>> import numpy as np
    >>> cache, tree = DecodedCache(100), object()
    >>> cache.keep(tree, (0, 1), (np.zeros(8),))
    >>> cache.cached_bytes, cache.get(tree, (0, 2)) is None
    (64, True)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[tuple[int, Key], Arrays] = OrderedDict()
        self._lock = Lock()

    @property
    def cached_bytes(self) -> int:
        return self._bytes

    def get(self, owner: object, key: Key) -> Arrays | None:
        with self._lock:
            arrays = self._kept.get((id(owner), key))
            if arrays is not None:
                self._kept.move_to_end((id(owner), key))
            return arrays

    def keep(self, owner: object, key: Key, arrays: Arrays) -> None:
        """Keep arrays that nobody writes to; more than there is room for are not kept."""
        size = _bytes(arrays)
        with self._lock:
            if size > self._max_bytes or (id(owner), key) in self._kept:
                return
            self._kept[id(owner), key] = arrays
            self._bytes += size
            while self._bytes > self._max_bytes:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])

    def forget(self, owner: object) -> None:
        """Drop all that is of an owner."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == id(owner)]:
                self._bytes -= _bytes(self._kept.pop(key))


def _bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays)
