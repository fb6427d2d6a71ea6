"""The loops over the bytes of RNTuple pages: numbers put together of their split bytes.

(RNTuple binary format, version 1.0, "Column encodings": a page of n split numbers has the lowest
byte of each, then the next byte of each; differences and zigzag are applied before.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.compiled import compiled


@compiled
def join_bytes(data: NDArray[np.uint8], elements: int, first: int, out: NDArray[Any]) -> None:
    """Numbers ``first`` to ``first + len(out)`` of a page of split bytes.

    data: at least ``elements`` times the width of ``out``, which is of unsigned integers.
    """
    width, size = out.itemsize, len(out)
    if width == 4:  # written out: vectors are made of it
        lowest, low = data[first : first + size], data[elements + first : elements + first + size]
        high = data[2 * elements + first : 2 * elements + first + size]
        highest = data[3 * elements + first : 3 * elements + first + size]
        for number in range(size):
            out[number] = (
                np.uint32(lowest[number])
                | (np.uint32(low[number]) << np.uint32(8))
                | (np.uint32(high[number]) << np.uint32(16))
                | (np.uint32(highest[number]) << np.uint32(24))
            )
        return
    for number in range(size):
        out[number] = 0
    for byte in range(width):
        part = data[byte * elements + first : byte * elements + first + size]
        for number in range(size):
            out[number] |= out.dtype.type(part[number]) << out.dtype.type(8 * byte)


@compiled
def undo_zigzag(values: NDArray[Any]) -> None:
    """0, 1, 2, 3, … to 0, -1, 1, -2, …; unsigned integers, in place."""
    one = values.dtype.type(1)
    zero = values.dtype.type(0)
    for number in range(len(values)):
        value = values[number]
        values[number] = (value >> one) ^ (zero - (value & one))
