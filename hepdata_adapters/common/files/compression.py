"""The compressed blocks of one TTree basket, uncompressed.

Formats as in ROOT's `RZip.cxx` and `ZipLZ4.cxx`, and as uproot reads them. What is not quite as
usual is an UnusualError: uproot itself then reads it, or says why not.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable

import cramjam
import numpy as np
import xxhash
from numpy.typing import NDArray

from hepdata_adapters.common.files.baskets import BLOCK

Bytes = NDArray[np.uint8]
_CHECKSUM = struct.Struct(">Q")  # XXH64 of what follows, in front of LZ4 only


class UnusualError(ValueError):
    """A basket that is left to uproot."""


class Scratch(threading.local):
    """Room for the baskets of a branch, for each thread its own: the next ones overwrite it.

    Memory that is new to the process costs half as much again as to uncompress into it.
    """

    def __init__(self) -> None:
        self._rooms = {"stored": np.empty(0, np.uint8), "data": np.empty(0, np.uint8)}

    def room(self, name: str, length: int) -> Bytes:
        """``(length,)`` uint8 of any values, until it is asked for by this name again."""
        if length > len(self._rooms[name]):
            self._rooms[name] = np.empty(length, np.uint8)
        return self._rooms[name][:length]


def uncompressed(stored: memoryview, out: Bytes) -> Bytes:
    """What the blocks hold, in ``out``. Raises UnusualError where they do not fill it."""
    room, length = out.data, len(out)
    place = filled = 0
    while place < len(stored):
        if place + BLOCK.size > len(stored):
            raise UnusualError("a block without its header")
        algorithm, _, packed, unpacked = BLOCK.unpack_from(stored, place)
        place += BLOCK.size
        stop, size = place + int.from_bytes(packed, "little"), int.from_bytes(unpacked, "little")
        work = _ALGORITHMS.get(algorithm)
        if work is None or not size or stop > len(stored) or filled + size > length:
            raise UnusualError(f"a block of {algorithm!r}")
        try:
            done = work(stored[place:stop], room[filled : filled + size])
        except (cramjam.DecompressionError, zlib.error, struct.error, ValueError) as error:
            raise UnusualError(str(error)) from None
        if done != size:
            raise UnusualError(f"a block of {size} bytes holds {done}")
        place, filled = stop, filled + size
    if filled != length:
        raise UnusualError(f"blocks of {filled} bytes for {length}")
    return out


def _lz4(stored: memoryview, out: memoryview) -> int:
    data = stored[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(stored)[0] != xxhash.xxh64_intdigest(data):
        raise UnusualError("a checksum that differs")
    return _put(memoryview(cramjam.lz4.decompress_block(data, output_len=len(out))), out)


def _put(found: bytes | memoryview, out: memoryview) -> int:
    if len(found) == len(out):
        out[:] = found
    return len(found)


_ALGORITHMS: dict[bytes, Callable[[memoryview, memoryview], int]] = {
    b"ZS": lambda stored, out: int(cramjam.zstd.decompress_into(stored, out)),
    b"L4": _lz4,
    b"ZL": lambda stored, out: _put(zlib.decompress(stored, bufsize=len(out)), out),
    b"XZ": lambda stored, out: int(cramjam.xz.decompress_into(stored, out)),
}
