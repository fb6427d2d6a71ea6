"""What a TTree says of its baskets, checked before it is believed.

A basket's place and size stand in the tree, its lengths and offsets in its own header and behind
its data. uproot takes them as they are: a damaged number asks for gigabytes, or gives values of
other events. Nothing here costs a request to a server: headers are looked at in local files only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEY = struct.Struct(">ihiIhh")  # fNbytes, version, fObjlen, fDatime, fKeylen, fCycle
_TAIL = struct.Struct(">hiiii")  # version, fBufferSize, fNevBufSize, fNevBuf, fLast; then a flag
_HEAD = 256  # bytes: the key of most baskets, with its names
_BLOCK = struct.Struct("<2sB3s3s")  # algorithm, method, compressed and uncompressed size


class DamagedError(ValueError):
    """What a file says of itself cannot be."""


def check_entries(tree: Any, entries: int) -> None:
    """Check the number of entries of a TTree against its branches, before plans are made for it.

    Raises DamagedError where no branch has so many.
    """
    most = max((int(branch.entry_offsets[-1]) for branch in tree.itervalues()), default=entries)
    if entries < 0 or entries > most:
        raise DamagedError(f"the tree says it has {entries} entries; its branches have {most}")


def check_branch(branch: Any, start: int, stop: int) -> None:
    """Check the baskets of a TBranch that hold entries ``start`` to ``stop``, and those read later.

    Raises DamagedError where the tables of the tree, or the headers in a local file, disagree
    with themselves or with the file; reading the branch raises it for values and offsets that
    do not fit.
    """
    edges = np.asarray(branch.entry_offsets, np.int64)
    if (np.diff(edges) < 0).any() or edges[0] != 0 or not start <= stop <= edges[-1]:
        raise DamagedError(f"its baskets hold entries {_some(edges)}")
    first = int(np.searchsorted(edges, start, "right")) - 1
    last = int(np.searchsorted(edges, stop, "left"))
    normal = branch.num_baskets - len(branch.embedded_baskets)
    source, end = branch.file.source, branch.file.fEND
    seeks, sizes = branch.member("fBasketSeek"), branch.member("fBasketBytes")
    local = "://" not in branch.file.file_path.removeprefix("file://")
    for number in range(max(first, 0), min(last, normal)):
        seek, size = int(seeks[number]), int(sizes[number])
        if seek <= 0 or size <= 0 or seek + size > end:
            raise DamagedError(f"basket {number} at bytes {seek} to {seek + size} of {end}")
        if local:
            entries = int(edges[number + 1] - edges[number])
            check_header(_reader(source, seek), size, number, entries)
    interpretation = branch.interpretation
    interpretation.hook_before_basket_array = _check_byte_offsets
    interpretation.hook_after_basket_array = _check_basket


def check_header(read: Callable[[int, int], bytes], size: int, number: int, entries: int) -> None:
    """Check the header of a basket against its size and its number of entries.

    read: the bytes ``start`` to ``stop`` of the basket as stored. Raises DamagedError.
    """
    head = read(0, min(size, _HEAD))
    if len(head) < _KEY.size:
        raise DamagedError(f"basket {number} has {len(head)} bytes")
    nbytes, _, length, _, key, _ = _KEY.unpack_from(head)
    if nbytes != size or not _KEY.size + _TAIL.size < key <= size or length < 0:
        raise DamagedError(
            f"basket {number} of {size} bytes says it has {nbytes}, "
            f"its key {key}, its content {length}"
        )
    if key > len(head):
        head = read(0, key)
    *_, held, last = _TAIL.unpack_from(head, key - _TAIL.size - 1)
    if held != entries or not key <= last <= key + length:
        raise DamagedError(
            f"basket {number} says it has {held} entries in {last - key} of {length} bytes; "
            f"there are {entries}"
        )

    def piece(start: int, stop: int) -> bytes:
        return head[start:stop] if stop <= len(head) else read(start, stop)

    if size - key != length and _uncompressed(piece, key, size) != length:
        raise DamagedError(f"the blocks of basket {number} do not add up to {length} bytes")


def _reader(source: Any, seek: int) -> Callable[[int, int], bytes]:
    return lambda start, stop: bytes(source.chunk(seek + start, seek + stop).raw_data)


def _uncompressed(read: Callable[[int, int], bytes], place: int, size: int) -> int:
    """Bytes that compressed blocks say they hold, -1 where they do not fill their room."""
    total = 0
    while place + _BLOCK.size <= size:
        _, _, compressed, uncompressed = _BLOCK.unpack(read(place, place + _BLOCK.size))
        place += _BLOCK.size + int.from_bytes(compressed, "little")
        total += int.from_bytes(uncompressed, "little")
    return total if place == size else -1


def check_offsets(offsets: NDArray[Any], length: int, what: str = "its lists") -> None:
    """Check that lists follow each other and end inside a content of ``length``.

    >>> check_offsets(np.array([0, 2, 1]), 4)
    Traceback (most recent call last):
    ...
    hepdata_adapters.common.files.baskets.DamagedError: its lists end at 0, 2, 1 of 4
    """
    inside = len(offsets) and offsets[0] >= 0 and offsets[-1] <= length
    if not inside or (offsets[1:] < offsets[:-1]).any():
        raise DamagedError(f"{what} end at {_some(offsets)} of {length}")


def _check_byte_offsets(*, byte_offsets: Any, data: Any, basket: Any, **_: Any) -> None:
    if byte_offsets is not None:
        check_offsets(byte_offsets, len(data), f"the lists of basket {basket.basket_num}")


def _check_basket(*, output: Any, basket: Any, branch: Any, **_: Any) -> None:
    """Check the values of a basket: an array, or offsets and content."""
    number = basket.basket_num
    edges = branch.entry_offsets
    entries = edges[number + 1] - edges[number]
    offsets = getattr(output, "offsets", None)
    held = len(output) if offsets is None else len(offsets) - 1
    if held != entries:
        raise DamagedError(f"basket {number} has {held} entries; there are {entries}")
    if offsets is None:
        return
    length = len(output.content)
    check_offsets(offsets, length, f"the lists of basket {number}")
    if offsets[0] != 0 or offsets[-1] != length:
        raise DamagedError(
            f"the lists of basket {number} take {offsets[-1] - offsets[0]} of {length} values"
        )


def _some(values: Iterable[Any], shown: int = 6) -> str:
    some = [str(int(value)) for _, value in zip(range(shown), values, strict=False)]
    return ", ".join(some) + (", …" if len(some) == shown else "")
