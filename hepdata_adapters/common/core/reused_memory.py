"""Arrays in memory that is used again as soon as nobody refers to them.

Memory that is new to a process costs a fault for each page that is written first: tf.data gained an
eighth where the arrays of chunks use theirs again.
"""

from __future__ import annotations

import weakref
from math import prod
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Block = NDArray[np.uint8]
ALIGNMENT = 64  # a cache line; frameworks take arrays so aligned without a copy
MOST_UNUSED = 2  # times what is asked for: a larger block waits for one who needs it


class ReusedMemory:
    """Makes arrays; what was in them goes to the next one. Threads may share it.

    most_free: blocks that are kept while nobody uses them, one or more.

    >>> memory = ReusedMemory(most_free=4)
    >>> array = memory.empty((2, 3), np.float32)
    >>> place, part = array.ctypes.data, array[1]
    >>> del array
    >>> memory.empty((2, 3), np.float32).ctypes.data == place  # part refers to it
    False
    >>> del part
    >>> memory.empty(6, np.int32).ctypes.data == place
    True
    """

    def __init__(self, most_free: int) -> None:
        self._most_free = most_free
        self._free: list[Block] = []
        self._lock = Lock()

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of any values, which begins at a multiple of `ALIGNMENT`."""
        shape = (shape,) if isinstance(shape, int) else shape
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        block = self._taken(size)
        loan = Loan(block)
        weakref.finalize(loan, self._give_back, block).atexit = False
        return np.asarray(loan)[:size].view(dtype).reshape(shape)

    def _taken(self, size: int) -> Block:
        with self._lock:
            for number in reversed(range(len(self._free))):
                if size <= len(self._free[number]) <= MOST_UNUSED * size:
                    return self._free.pop(number)
        room = np.empty(size + ALIGNMENT, np.uint8)
        return room[-room.ctypes.data % ALIGNMENT :][:size]

    def _give_back(self, block: Block) -> None:
        # an array may go in the middle of `_taken`, of the same thread: it must not wait for itself
        if self._lock.acquire(blocking=False):
            try:
                self._free.append(block)
                del self._free[: -self._most_free]
            finally:
                self._lock.release()


class Loan:
    """What owns the memory of an array, for numpy: it lives as long as any array made of it.

    An array could not take its place: numpy lets a view refer past it, to the block itself.
    """

    def __init__(self, block: Block) -> None:
        self.__array_interface__ = block.__array_interface__
