"""The bytes of one TTree basket: its blocks uncompressed, its numbers turned to this machine.

Formats as in ROOT's `TBasket::ReadBasketBuffers`, `RZip.cxx` and `ZipLZ4.cxx`, and as uproot reads
them. What is not quite as usual is an UnusualError: uproot itself then reads it, or says why not.
"""

from __future__ import annotations

import math
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
import numpy as np
import xxhash
from numpy.typing import NDArray

from hepdata_adapters.common.files.baskets import BLOCK

LONG = 20  # numbers a list, about where a mask becomes cheaper
Bytes = NDArray[np.uint8]
_CHECKSUM = struct.Struct(">Q")  # XXH64 of what follows, in front of LZ4 only


class UnusualError(ValueError):
    """A basket that is left to uproot."""


class Scratch(threading.local):
    """Room for one basket, for each thread its own: the next one overwrites it.

    Memory that is new to the process costs half as much again as to uncompress into it.
    """

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def room(self, length: int) -> Bytes:
        """``(length,)`` uint8 of any values."""
        if length > len(self._bytes):
            self._bytes = np.empty(length, np.uint8)
        return self._bytes[:length]


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


def list_ends(table: Bytes, key: int, border: int) -> NDArray[np.int32]:
    """Where lists begin and end in the data of a basket, ``(n + 1,)`` int32, as written.

    table: what is behind the data: a count, then big-endian int32 counted from the start of the
    key, of which the last is not set. border: bytes of data.
    """
    if len(table) < 8 or len(table) % 4:
        raise UnusualError("a table of another length")
    ends: NDArray[np.int32] = table.view(">i4")[1:] - np.int32(key)
    ends[-1] = border
    return ends


def list_offsets(ends: NDArray[np.int32], width: int, header: int) -> NDArray[np.int64]:
    """Ends in bytes to offsets in numbers of ``width`` bytes, ``(n + 1,)`` int64 from 0.

    header: bytes in front of each list that are none of its numbers. Raises UnusualError where
    the lists do not follow each other, or have half a number.
    """
    if ends[0] < 0 or (ends[1:] < ends[:-1]).any():
        raise UnusualError("lists that do not follow each other")
    if header:
        sizes = np.diff(ends) - np.int32(header)
        if ends[0] or (sizes < 0).any() or (sizes & (width - 1)).any():
            raise UnusualError("lists with half a number")
        offsets = np.zeros(len(ends), np.int64)
        np.cumsum(sizes >> (width.bit_length() - 1), out=offsets[1:])
        return offsets
    if int(ends[-1]) % width:
        raise UnusualError("half a number")
    offsets = (ends >> (width.bit_length() - 1)).astype(np.int64)
    if offsets[0]:
        raise UnusualError("values before the first list")
    return offsets


def copy_numbers(data: Bytes, out: NDArray[Any]) -> None:
    """Big-endian numbers into ``out``, of any dtype of the same total size."""
    width = out.dtype.itemsize
    numbers = data.view(f">u{width}")
    if not numbers.flags.aligned:
        numbers = numbers.copy()  # numpy turns what is aligned several times faster
    np.copyto(out.view(f"u{width}"), numbers)


def copy_lists(data: Bytes, offsets: NDArray[np.int64], header: int, out: NDArray[Any]) -> None:
    """The numbers of lists that each have ``header`` bytes in front, into ``out``.

    offsets: ``(lists + 1,)`` of the numbers, from 0; data: ``len(out)`` numbers and the headers.
    """
    if not len(out):
        return
    lists = len(offsets) - 1
    work = _without_headers if len(out) > LONG * lists else _taken
    found = work(data, offsets, out.dtype.itemsize, header)
    np.copyto(out.view(found.dtype.newbyteorder("=")), found)


def _taken(data: Bytes, offsets: NDArray[np.int64], width: int, header: int) -> NDArray[Any]:
    """Number by number, ``(n,)`` big-endian: what to skip is looked at once a list."""
    # numbers begin at multiples of this: a view has all of them, and most bytes several times
    step, count = math.gcd(width, header), int(offsets[-1])
    places = (len(data) - width) // step + 1
    numbers: NDArray[Any] = np.ndarray((places,), f">u{width}", data, strides=(step,))
    where = np.full(count, width // step)
    where[0] = 0
    first = offsets[:-1]
    np.add.at(where, first[first < count], header // step)  # empty lists add to the next
    np.cumsum(where, out=where)
    return np.take(numbers, where)


def _without_headers(
    data: Bytes, offsets: NDArray[np.int64], width: int, header: int
) -> NDArray[Any]:
    """The same by a mask of what is kept, cheaper for long lists."""
    step, lists = math.gcd(width, header), len(offsets) - 1
    keep = np.ones(len(data) // step, np.bool_)
    headers = (offsets[:-1] * width + header * np.arange(lists)) // step
    for place in range(header // step):
        keep[headers + place] = False
    return data.view(f"u{step}")[keep].view(f">u{width}")
