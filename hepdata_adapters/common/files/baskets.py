"""What a TTree says of its baskets, checked before it is believed.

A basket's place and size stand in the tree, its lengths and offsets in its own header and behind
its data. uproot takes them as they are: a damaged number asks for gigabytes, or gives values of
other events. Nothing here costs a request to a server: headers of a remote file are looked at
only where the whole basket has come.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_KEY = struct.Struct(">ihiIhh")  # fNbytes, version, fObjlen, fDatime, fKeylen, fCycle
_TAIL = struct.Struct(">hiiii")  # version, fBufferSize, fNevBufSize, fNevBuf, fLast; then a flag
_HEAD = 256  # bytes: the key of most baskets, with its names
BLOCK = struct.Struct("<2sB3s3s")  # algorithm, method, compressed and uncompressed size
Read = Callable[[int, int], bytes | memoryview]


class DamagedError(ValueError):
    """What a file says of itself cannot be."""


def check_entries(tree: Any, entries: int) -> None:
    """Check the number of entries of a TTree against its branches, before plans are made for it.

    Raises DamagedError where no branch has so many.
    """
    most = max((int(branch.entry_offsets[-1]) for branch in tree.itervalues()), default=entries)
    if entries < 0 or entries > most:
        raise DamagedError(f"the tree says it has {entries} entries; its branches have {most}")


class Basket(NamedTuple):
    """A basket as the tree has it: its bytes in the file, its first entry and how many it has.

    kept: uproot's model of a basket that came with the tree, which has no bytes of its own.
    """

    number: int
    seek: int
    size: int
    start: int
    entries: int
    kept: Any = None

    @property
    def place(self) -> tuple[int, int]:
        """Its first byte in the file, and the one behind its last."""
        return self.seek, self.seek + self.size

    def part(self, start: int, stop: int) -> tuple[int, int]:
        """Which of its own entries are among ``start`` to ``stop`` of the tree."""
        return max(start - self.start, 0), min(stop - self.start, self.entries)


class Header(NamedTuple):
    """What a basket says of itself: bytes of its key, its content, and the data in its content."""

    key: int
    length: int
    border: int


def find_baskets(branch: Any, start: int, stop: int) -> list[Basket]:
    """The baskets of a TBranch that hold entries ``start`` to ``stop``, those of the tree last.

    Raises DamagedError where the tables of the tree disagree with themselves or with the file.
    """
    kept = branch.embedded_baskets
    normal = branch.num_baskets - len(kept)
    edges = _edges(branch, normal)
    if (edges[1:] < edges[:-1]).any() or edges[0] != 0 or not start <= stop <= edges[-1]:
        raise DamagedError(f"its baskets hold entries {_some(edges)}")
    first = max(int(np.searchsorted(edges, start, "right")) - 1, 0)
    last = int(np.searchsorted(edges, stop, "left"))
    borders = edges[first : last + 1].tolist()
    own = slice(first, min(last, normal))
    places = [branch.member(name)[own].tolist() for name in ("fBasketSeek", "fBasketBytes")]
    end = branch.file.fEND
    found = []
    for index, number in enumerate(range(first, last)):
        edge, next_edge = borders[index : index + 2]
        if number >= normal:
            found.append(Basket(number, 0, 0, edge, next_edge - edge, kept[number - normal]))
            continue
        seek, size = places[0][index], places[1][index]
        if seek <= 0 or size <= 0 or seek + size > end:
            raise DamagedError(f"basket {number} at bytes {seek} to {seek + size} of {end}")
        found.append(Basket(number, seek, size, edge, next_edge - edge))
    return found


def _edges(branch: Any, normal: int) -> NDArray[np.int64]:
    """First entries of all baskets and the end, ``(n + 1,)``; uproot's take a list each time."""
    if normal and not branch.embedded_baskets:
        edges = np.asarray(branch.member("fBasketEntry")[: normal + 1], np.int64)
        if len(edges) == normal + 1 and edges[-1] == branch.num_entries:
            return edges
    return np.asarray(branch.entry_offsets, np.int64)


def check_branch(branch: Any, start: int, stop: int) -> None:
    """Check the baskets of a TBranch that hold entries ``start`` to ``stop``, and those read later.

    Raises DamagedError where the tables of the tree, or the headers in a local file, disagree
    with themselves or with the file; reading the branch by uproot then raises it for values and
    offsets that do not fit.
    """
    source = branch.file.source
    local = "://" not in branch.file.file_path.removeprefix("file://")
    for basket in find_baskets(branch, start, stop):
        if local and basket.kept is None:
            check_header(_reader(source, basket.seek), basket.size, basket.number, basket.entries)
    interpretation = branch.interpretation
    interpretation.hook_before_basket_array = _check_byte_offsets
    interpretation.hook_after_basket_array = _check_basket


def check_header(read: Read, size: int, number: int, entries: int) -> Header:
    """The header of a basket, checked against its size and its number of entries.

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

    def piece(start: int, stop: int) -> bytes | memoryview:
        return head[start:stop] if stop <= len(head) else read(start, stop)

    if size - key != length and _uncompressed(piece, key, size) != length:
        raise DamagedError(f"the blocks of basket {number} do not add up to {length} bytes")
    return Header(key, length, last - key)


def _reader(source: Any, seek: int) -> Read:
    return lambda start, stop: bytes(source.chunk(seek + start, seek + stop).raw_data)


def _uncompressed(read: Read, place: int, size: int) -> int:
    """Bytes that compressed blocks say they hold, -1 where they do not fill their room."""
    total = 0
    while place + BLOCK.size <= size:
        _, _, compressed, uncompressed = BLOCK.unpack(read(place, place + BLOCK.size))
        place += BLOCK.size + int.from_bytes(compressed, "little")
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
