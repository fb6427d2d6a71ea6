"""Branches of TTrees from their baskets, without uproot's work for each basket.

Read so: numbers, fixed arrays of them, and lists of them with a counting branch (``x[n]``) or as
``std::vector``. uproot reads all else, and each branch with a basket that is not as usual: what
it gives and what it raises is what counts.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.threads import shared_out
from hepdata_adapters.common.files.basket_kernels import (
    copy_all_lists,
    count_numbers,
    read_ends,
    read_headers,
)
from hepdata_adapters.common.files.baskets import Basket, check_header
from hepdata_adapters.common.files.compression import Bytes, Scratch, UnusualError, uncompressed
from hepdata_adapters.common.files.decoded_cache import Arrays, DecodedCache, worth_keeping

VECTOR_HEADER = 10  # bytes in front of a std::vector: size, version, and number of its values
LARGE = 32 * 1024  # bytes as stored of a basket that is worth a thread


@dataclass(frozen=True)
class Layout:
    """How a branch is stored.

    dtype: of one number, native. shape: of a fixed array of them an event. header: bytes in front
    of each list, None where there are no lists.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    header: int | None = None


class Data(NamedTuple):
    """What some baskets of a branch hold, uncompressed, until scratch room is used again.

    numbers: of the baskets. bytes: of all of them; those of basket i begin at ``starts[i]``.
    headers: ``(b, 3)`` int64, of each the bytes of its key, all bytes that it holds, and those in
    front of its table of lists. entries: ``(b,)``, how many it has. parts: ``(b, 2)``, the first
    and last of those wanted. ends: ``(entries + b,)``, where lists end in the bytes of a basket;
    None where there are none, or they are still in the tables.
    """

    numbers: tuple[int, ...]
    bytes: Bytes
    starts: NDArray[np.int64]
    headers: NDArray[np.int64]
    entries: NDArray[np.int64]
    parts: NDArray[np.int64]
    ends: NDArray[np.int32] | None = None

    def of(self, place: int) -> Arrays:
        """Copies of the data of one of the baskets, and of the ends of its lists."""
        start, border = int(self.starts[place]), int(self.headers[place, 2])
        own = self.bytes[start : start + border].copy()
        if self.ends is None:
            return (own,)
        first = int((self.entries[:place] + 1).sum())
        return own, self.ends[first : first + int(self.entries[place]) + 1].copy()


@dataclass(frozen=True, eq=False)
class BranchRange:
    """A branch whose entries ``start`` to ``stop`` are wanted, and the baskets that have them.

    kept: where decoded baskets of ``owner``, the open tree, are kept that reach far beyond.
    """

    branch: Any
    baskets: Sequence[Basket]
    start: int
    stop: int
    owner: object = None
    kept: DecodedCache | None = None

    @cached_property
    def decoded(self) -> dict[int, Arrays]:
        """Data, and ends of lists if there are any, of baskets that are kept, by number."""
        if self.kept is None:
            return {}
        numbers = [one.number for one in self.baskets if self._worth_keeping(one.entries)]
        found = ((number, self.kept.get(self.owner, self._key(number))) for number in numbers)
        return {number: arrays for number, arrays in found if arrays is not None}

    def places(self) -> list[tuple[int, int]]:
        """The bytes that are read of the file."""
        return [
            basket.place
            for basket in self.baskets
            if basket.kept is None and basket.number not in self.decoded
        ]

    def keep(self, data: Data) -> None:
        """Keep baskets that are much larger than what is wanted now."""
        if self.kept is None:
            return
        for place, entries in enumerate(data.entries.tolist()):
            number = data.numbers[place]
            if self._worth_keeping(entries) and number not in self.decoded:
                self.kept.keep(self.owner, self._key(number), data.of(place))

    def _worth_keeping(self, entries: int) -> bool:
        return worth_keeping(entries, self.stop - self.start)

    def _key(self, number: int) -> tuple[int, int]:
        return id(self.branch), number


def layout_of(branch: Any) -> Layout | None:
    """The layout of a TBranch, None where it is one that uproot reads."""
    import uproot

    found, header = branch.interpretation, None
    if type(found) is uproot.AsJagged:
        if found.header_bytes not in (0, VECTOR_HEADER):
            return None
        found, header = found.content, int(found.header_bytes)
    if type(found) is not uproot.AsDtype:
        return None
    stored, native = found.from_dtype, found.to_dtype
    if stored.newbyteorder("=") != native or stored.base.newbyteorder(">") != stored.base:
        return None
    dtype, shape = native.base, native.shape
    if dtype.kind not in "biuf" or dtype.itemsize not in (1, 2, 4, 8):
        return None
    if not prod(shape) or (header is not None and shape):
        return None
    return Layout(dtype, shape, header)


def read_baskets(wanted: Sequence[BranchRange], threads: int = 1) -> list[Column | None]:
    """Their columns, ``(n,)``, ``(n, size)`` or `Jagged`; None where uproot is to read one.

    Raises DamagedError where the header of a basket cannot be.
    """
    for each in wanted:  # before threads ask: what uproot reads for it, others see half made
        _ = each.branch.interpretation
    large = sum(basket.size > LARGE for each in wanted for basket in each.baskets)
    scratch = Scratch()
    return shared_out(lambda each: _read(each, scratch), wanted, threads if large > 1 else 1)


def _read(wanted: BranchRange, scratch: Scratch) -> Column | None:
    layout = layout_of(wanted.branch)
    if layout is None:
        return None
    try:
        if layout.header is None:
            return _read_numbers(wanted, layout, scratch)
        return _read_lists(wanted, layout.dtype, layout.header, scratch)
    except UnusualError:
        return None


def _content(wanted: BranchRange, scratch: Scratch) -> Iterator[Data]:
    """The baskets, as many at once as can be. Raises DamagedError where a header cannot be."""
    from_file: list[Basket] = []
    for basket in wanted.baskets:
        known = wanted.decoded.get(basket.number)
        if basket.kept is not None:
            ends = basket.kept.byte_offsets
            known = (np.asarray(basket.kept.data),)
            known += () if ends is None else (np.asarray(ends, np.int32),)
        if known is None:
            from_file.append(basket)
            continue
        if from_file:
            yield _stored(wanted, from_file, scratch)
            from_file = []
        yield _known(wanted, basket, known)
    if from_file:
        yield _stored(wanted, from_file, scratch)


def _known(wanted: BranchRange, basket: Basket, arrays: Arrays) -> Data:
    size = len(arrays[0])
    return Data(
        (basket.number,), arrays[0], np.zeros(1, np.int64), np.array([[0, size, size]]),
        *_entries(wanted, [basket]), arrays[1] if len(arrays) > 1 else None,
    )  # fmt: skip


def _stored(wanted: BranchRange, baskets: Sequence[Basket], scratch: Scratch) -> Data:
    """Baskets as they are in the file."""
    entries, parts = _entries(wanted, baskets)
    starts = np.cumsum([0] + [basket.size for basket in baskets])
    stored = scratch.room("stored", int(starts[-1]))
    _read_into(wanted.branch.file.source, [basket.place for basket in baskets], stored)
    headers = np.empty((len(baskets), 3), np.int64)
    good = read_headers(stored, starts, entries, headers)
    if good < len(baskets):
        raw, bad = stored[starts[good] : starts[good + 1]].data, baskets[good]
        check_header(lambda start, stop: raw[start:stop], bad.size, bad.number, bad.entries)
        raise UnusualError("a header that we do not understand")
    places = np.cumsum(np.append(0, headers[:, 1]))
    data = scratch.room("data", int(places[-1]))
    edges = starts.tolist()
    for number, (key, length, _) in enumerate(headers.tolist()):
        packed = stored[edges[number] + key : edges[number + 1]]
        room = data[places[number] : places[number + 1]]
        if len(packed) == length:
            room[:] = packed
        else:
            uncompressed(packed.data, room)
    numbers = tuple(basket.number for basket in baskets)
    return Data(numbers, data, places[:-1], headers, entries, parts)


def _read_into(source: Any, places: list[tuple[int, int]], out: Bytes) -> None:
    """The bytes of ``places`` of an open file, one after the other; they fill ``out``."""
    done = 0
    if read := getattr(source, "read_into", None):  # a local file
        for start, stop in places:
            read(start, out[done : done + stop - start].data)
            done += stop - start
        return
    for (start, stop), chunk in zip(places, source.chunks(places, queue.Queue()), strict=True):
        out[done : done + stop - start] = chunk.raw_data  # waits, if it is still under way
        done += stop - start


def _entries(
    wanted: BranchRange, baskets: Sequence[Basket]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many entries baskets have, and the first and last of each that are wanted."""
    entries = np.array([basket.entries for basket in baskets], np.int64)
    parts = [basket.part(wanted.start, wanted.stop) for basket in baskets]
    return entries, np.array(parts, np.int64)


def _read_numbers(wanted: BranchRange, layout: Layout, scratch: Scratch) -> NDArray[Any]:
    size = prod(layout.shape)
    out = np.empty((wanted.stop - wanted.start) * size, layout.dtype)
    width, done = size * out.dtype.itemsize, 0
    for data in _content(wanted, scratch):
        if data.ends is not None or (width * data.entries != data.headers[:, 1:].T).any():
            raise UnusualError("baskets of another length")
        wanted.keep(data)
        for start, (first, last) in zip(data.starts.tolist(), data.parts.tolist(), strict=True):
            part = out[done : done + (last - first) * size]
            _copy_numbers(data.bytes[start + first * width : start + last * width], part)
            done += len(part)
    if done != len(out):
        raise UnusualError("other entries than wanted")
    return out.reshape(-1, size) if layout.shape else out


def _copy_numbers(data: Bytes, out: NDArray[Any]) -> None:
    """Big-endian numbers into ``out``, of any dtype of the same total size."""
    width = out.dtype.itemsize
    numbers = data.view(f">u{width}")
    if not numbers.flags.aligned:
        numbers = numbers.copy()  # numpy turns what is aligned several times faster
    np.copyto(out.view(f"u{width}"), numbers)


def _read_lists(wanted: BranchRange, dtype: np.dtype[Any], header: int, scratch: Scratch) -> Jagged:
    offsets = np.zeros(wanted.stop - wanted.start + 1, np.int64)
    contents: list[NDArray[Any]] = []
    done = 0
    for data in _content(wanted, scratch):
        ends = _ends(data)
        wanted.keep(data._replace(ends=ends))
        count = count_numbers(ends, data.entries, header, dtype.itemsize, data.parts)
        if not 0 <= count <= int((data.headers[:, 2] // dtype.itemsize).sum()):
            raise UnusualError("lists that do not fit into their basket")
        content = np.empty(count, dtype)
        own = np.zeros(int(np.diff(data.parts).sum()) + 1, np.int64)
        end = copy_all_lists(
            data.bytes, data.starts, data.headers, data.entries, ends, header, data.parts,
            own, content.view(f"u{dtype.itemsize}"),
        )  # fmt: skip
        if end != count or done + len(own) > len(offsets):
            raise UnusualError("lists that do not fill their basket")
        offsets[done : done + len(own)] = own + offsets[done]
        done += len(own) - 1
        contents.append(content)
    if done != len(offsets) - 1:
        raise UnusualError("other lists than wanted")
    if len(contents) == 1:
        return Jagged(contents[0], offsets)
    return Jagged(np.concatenate([np.empty(0, dtype), *contents]), offsets)


def _ends(data: Data) -> NDArray[np.int32]:
    """Where lists end, as many as there are entries. Raises UnusualError for other tables."""
    if data.ends is None:
        ends = np.empty(int((data.entries + 1).sum()), np.int32)
        if read_ends(data.bytes, data.starts, data.headers, data.entries, ends):
            raise UnusualError("a table of another length")
        return ends
    if len(data.ends) != data.entries[0] + 1:
        raise UnusualError("other lists than entries")
    return data.ends
