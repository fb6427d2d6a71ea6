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
    width = out.itemsize
    if width == 4:  # written out: LLVM makes vectors of it
        for number in range(len(out)):
            at = first + number
            out[number] = (
                np.uint32(data[at])
                | (np.uint32(data[elements + at]) << 8)
                | (np.uint32(data[2 * elements + at]) << 16)
                | (np.uint32(data[3 * elements + at]) << 24)
            )
        return
    for number in range(len(out)):
        value = np.uint64(0)
        for byte in range(width):
            part = np.uint64(data[byte * elements + first + number])
            value |= part << np.uint64(8 * byte)
        out[number] = value


@compiled
def undo_zigzag(values: NDArray[Any]) -> None:
    """0, 1, 2, 3, … to 0, -1, 1, -2, …; unsigned integers, in place."""
    one = values.dtype.type(1)
    zero = values.dtype.type(0)
    for number in range(len(values)):
        value = values[number]
        values[number] = (value >> one) ^ (zero - (value & one))
