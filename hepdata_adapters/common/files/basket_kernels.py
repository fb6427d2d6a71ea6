"""The loops over the bytes of TTree baskets: headers checked, lists found, numbers turned around.

Formats as in ROOT's `TBasket::ReadBasketBuffers` and `TBufferFile`, and as uproot reads them. A
kernel looks before it reads: what it is given may be damaged. It then says so by a number below 0.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.compiled import Unsigned, compiled

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
UNUSUAL: Final = -1
_LEAST_KEY: Final = 37  # bytes of its fixed fields, without names
_BLOCK: Final = 9  # bytes in front of a compressed block


@compiled
def _big_endian(data: Bytes, place: int, width: int) -> int:
    """A signed number of 2 or 4 bytes."""
    value: Any = np.int64(data[place]) - ((np.int64(data[place]) & 128) << 1)
    for byte in range(1, width):
        value = (value << 8) | np.int64(data[place + byte])
    return int(value)


@compiled
def _uncompressed(stored: Bytes, place: int, stop: int) -> int:
    """Bytes that blocks say they hold, -1 where they do not fill their room."""
    total = 0
    while place + _BLOCK <= stop:
        packed: Any = 0
        unpacked: Any = 0
        for byte in (2, 1, 0):
            packed = (packed << 8) | np.int64(stored[place + 3 + byte])
            unpacked = (unpacked << 8) | np.int64(stored[place + 6 + byte])
        place += _BLOCK + packed
        total += unpacked
    return total if place == stop else -1


@compiled
def read_headers(stored: Bytes, starts: Integers, entries: Integers, headers: Integers) -> int:
    """What baskets say of themselves, into ``headers`` ``(b, 3)``: key, length and border.

    stored: their bytes; basket i has those from ``starts[i]`` to ``starts[i + 1]``. Returns the
    number of the first whose header cannot be, or their number if all can.
    """
    count = len(starts) - 1
    for basket in range(count):
        start, size = starts[basket], starts[basket + 1] - starts[basket]
        if size < _LEAST_KEY:
            return basket
        length, key = _big_endian(stored, start + 6, 4), _big_endian(stored, start + 14, 2)
        if _big_endian(stored, start, 4) != size or not _LEAST_KEY <= key <= size or length < 0:
            return basket
        held = _big_endian(stored, start + key - 9, 4)
        last = _big_endian(stored, start + key - 5, 4)
        if held != entries[basket] or not key <= last <= key + length:
            return basket
        if size - key != length and _uncompressed(stored, start + key, start + size) != length:
            return basket
        headers[basket, 0], headers[basket, 1], headers[basket, 2] = key, length, last - key
    return count


@compiled
def read_ends(
    data: Bytes, starts: Integers, headers: Integers, entries: Integers, ends: NDArray[np.int32]
) -> int:
    """Where lists begin and end in the data of their basket, into ``ends`` ``(sum + b,)`` int32.

    data: what baskets hold, one after the other from ``starts[i]`` on. Behind the data of each
    is a count, then big-endian int32 from the start of its key, of which the last is not set.
    Returns 0, or `UNUSUAL` where a table has another length.
    """
    done = 0
    for basket in range(len(entries)):
        key, length, border = headers[basket]
        if length - border != 4 * (entries[basket] + 2):
            return UNUSUAL
        place = starts[basket] + border + 4
        for entry in range(entries[basket]):
            ends[done + entry] = _big_endian(data, place + 4 * entry, 4) - key
        done += entries[basket] + 1
        ends[done - 1] = border
    return 0


@compiled
def count_numbers(
    ends: NDArray[np.int32], entries: Integers, header: int, width: int, parts: Integers
) -> int:
    """How many numbers of ``width`` bytes `copy_all_lists` copies, if the lists are what they say.

    Or `UNUSUAL` where they cannot be.
    """
    total = before = 0
    for basket in range(len(entries)):
        first, last = parts[basket]
        size = np.int64(ends[before + last]) - np.int64(ends[before + first])
        size -= header * (last - first)
        if size < 0:
            return UNUSUAL
        total += size // width
        before += entries[basket] + 1
    return total


@compiled
def copy_lists(
    data: Bytes,
    start: int,
    border: int,
    ends: NDArray[np.int32],
    header: int,
    first: int,
    last: int,
    offsets: Integers,
    content: NDArray[Any],
) -> int:
    """Lists ``first`` to ``last`` of a basket: their numbers to ``content``, as of ``offsets[0]``.

    data: with the basket's ``border`` bytes from ``start`` on. ends: ``(lists + 1,)``, of all of
    its lists. header: bytes in front of each that are none of its numbers. offsets: ``(last -
    first + 1,)``; those behind the first are set. content: unsigned integers of the width of the
    numbers.

    Returns the end in ``content``, or `UNUSUAL` where the lists do not follow each other, fill
    the data, have half a number, or more than there is room for.
    """
    width = content.itemsize
    done = offsets[0]
    lists = len(ends) - 1
    if start < 0 or border < 0 or start + border > len(data) or ends[0] or ends[lists] != border:
        return UNUSUAL
    if not 0 <= first <= last <= lists:
        return UNUSUAL
    for entry in range(lists):
        size = np.int64(ends[entry + 1]) - np.int64(ends[entry]) - header
        if size < 0 or size & (width - 1) or ends[entry + 1] > border:
            return UNUSUAL
        if not first <= entry < last:
            continue
        if done + size // width > len(content):
            return UNUSUAL
        place = Unsigned(start + np.int64(ends[entry]) + header)
        count, before = Unsigned(size // width), Unsigned(done)
        if width == 4:  # written out: a loop over the bytes takes ten times as long
            for number in range(count):
                at = place + (Unsigned(number) << Unsigned(2))
                content[before + Unsigned(number)] = (
                    (np.uint32(data[at]) << np.uint32(24))
                    | (np.uint32(data[at + Unsigned(1)]) << np.uint32(16))
                    | (np.uint32(data[at + Unsigned(2)]) << np.uint32(8))
                    | np.uint32(data[at + Unsigned(3)])
                )
        else:
            for number in range(count):
                value = np.uint64(0)
                at = place + Unsigned(number) * Unsigned(width)
                for byte in range(width):
                    value = (value << np.uint64(8)) | np.uint64(data[at + Unsigned(byte)])
                content[before + Unsigned(number)] = value
        done += size // width
        offsets[entry - first + 1] = done
    return int(done)


@compiled
def copy_all_lists(
    data: Bytes,
    starts: Integers,
    headers: Integers,
    entries: Integers,
    ends: NDArray[np.int32],
    header: int,
    parts: Integers,
    offsets: Integers,
    content: NDArray[Any],
) -> int:
    """`copy_lists` of baskets one after the other; parts: ``(b, 2)``, first and last list."""
    done = before = 0
    end = 0
    for basket in range(len(entries)):
        first, last = parts[basket]
        count = entries[basket] + 1
        end = copy_lists(
            data, starts[basket], headers[basket, 2], ends[before : before + count], header,
            first, last, offsets[done : done + last - first + 1], content,
        )  # fmt: skip
        if end < 0:
            return UNUSUAL
        before += count
        done += last - first
    return end
