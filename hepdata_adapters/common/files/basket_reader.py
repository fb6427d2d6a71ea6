"""Branches of TTrees from their baskets, without uproot's work for each basket.

Read so: numbers, fixed arrays of them, and lists of them with a counting branch (``x[n]``) or as
``std::vector``. uproot reads all else, and each branch with a basket that is not as usual: what
it gives and what it raises is what counts.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.files.basket_kernels import (
    Bytes,
    Scratch,
    UnusualError,
    copy_lists,
    copy_numbers,
    list_ends,
    list_offsets,
    uncompressed,
)
from hepdata_adapters.common.files.baskets import Basket, Header, check_header
from hepdata_adapters.common.files.decoded_cache import Arrays, DecodedCache, worth_keeping

VECTOR_HEADER = 10  # bytes in front of a std::vector: size, version, and number of its values
LARGE = 32 * 1024  # bytes as stored of a basket that is worth a thread
MOST_THREADS = 4


@dataclass(frozen=True)
class Layout:
    """How a branch is stored.

    dtype: of one number, native. shape: of a fixed array of them an event. header: bytes in front
    of each list, None where there are no lists.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    header: int | None = None


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
        numbers = [basket.number for basket in self.baskets]
        found = ((number, self.kept.get(self.owner, self._key(number))) for number in numbers)
        return {number: arrays for number, arrays in found if arrays is not None}

    def places(self) -> list[tuple[int, int]]:
        """The bytes that are read of the file."""
        return [
            basket.place
            for basket in self.baskets
            if basket.kept is None and basket.number not in self.decoded
        ]

    def keep(self, basket: Basket, data: Bytes, ends: NDArray[np.int32] | None) -> None:
        """Keep a large basket of which less than half is wanted now."""
        first, last = basket.part(self.start, self.stop)
        if self.kept is None or basket.number in self.decoded:
            return
        if not worth_keeping(basket.entries, last - first):
            return
        arrays = (data.copy(),) if ends is None else (data.copy(), ends.copy())
        self.kept.keep(self.owner, self._key(basket.number), arrays)

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


def read_baskets(wanted: Sequence[BranchRange]) -> list[Column | None]:
    """Their columns, ``(n,)``, ``(n, size)`` or `Jagged`; None where uproot is to read one.

    Raises DamagedError where the header of a basket cannot be.
    """
    large = sum(basket.size > LARGE for each in wanted for basket in each.baskets)
    scratch = Scratch()
    found: list[Column | None] = [None] * len(wanted)
    left = iter(range(len(wanted)))  # `next` is one step for all threads

    def work() -> None:
        try:
            for number in left:
                found[number] = _read(wanted[number], scratch)
        finally:
            deque(left, maxlen=0)  # after an error the others stop, too

    helpers = threads() - 1 if large > 1 else 0
    if not helpers:
        work()
        return found
    with ThreadPoolExecutor(helpers, "baskets") as pool:  # none is left for a fork to lose
        started = [pool.submit(work) for _ in range(helpers)]
        work()
        for one in started:
            one.result()
    return found


def threads() -> int:
    """Threads that uncompress; one in a worker process, as there are several of those."""
    if multiprocessing.parent_process() is not None:
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    return min(MOST_THREADS, len(affinity(0)) if affinity else os.cpu_count() or 1)


class StoredBasket(NamedTuple):
    """A basket and its bytes, key included; of one that came with the tree, its data."""

    basket: Basket
    raw: Bytes
    header: Header
    decoded: Arrays | None = None

    def content(self, scratch: Scratch) -> tuple[Bytes, NDArray[np.int32] | None]:
        """Its data, and where lists end in them if it says so; until ``scratch`` is used again."""
        if self.decoded is not None:
            return self.decoded[0], self.decoded[1] if len(self.decoded) > 1 else None
        kept, (key, length, border) = self.basket.kept, self.header
        if kept is not None:
            return self.raw, kept.byte_offsets
        whole = self.raw[key:]
        if len(whole) != length:
            whole = uncompressed(whole.data, scratch.room(length))
        ends = None if border == length else list_ends(whole[border:], key, border)
        return whole[:border], ends


def _stored(wanted: BranchRange) -> list[StoredBasket]:
    """The baskets as they are in the file. Raises DamagedError where a header cannot be."""
    places = wanted.places()
    # they come in this order, each may still be under way
    chunks = iter(wanted.branch.file.source.chunks(places, queue.Queue()) if places else [])
    found = []
    for basket in wanted.baskets:
        if (arrays := wanted.decoded.get(basket.number)) is not None:
            size = len(arrays[0])
            found.append(StoredBasket(basket, arrays[0], Header(0, size, size), arrays))
        elif basket.kept is None:
            raw = next(chunks).raw_data
            found.append(StoredBasket(basket, raw, _header(raw.data, basket)))
        else:
            data = basket.kept.data
            found.append(StoredBasket(basket, data, Header(0, len(data), len(data))))
    return found


def _header(stored: memoryview, basket: Basket) -> Header:
    return check_header(
        lambda start, stop: stored[start:stop], basket.size, basket.number, basket.entries
    )


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


def _read_numbers(wanted: BranchRange, layout: Layout, scratch: Scratch) -> NDArray[Any]:
    size = prod(layout.shape)
    out = np.empty((wanted.stop - wanted.start) * size, layout.dtype)
    width = size * out.dtype.itemsize
    for stored in _stored(wanted):
        basket, (data, ends) = stored.basket, stored.content(scratch)
        if ends is not None or len(data) != width * basket.entries:
            raise UnusualError("a basket of another length")
        wanted.keep(basket, data, ends)
        first, last = basket.part(wanted.start, wanted.stop)
        place = (basket.start + first - wanted.start) * size
        part = out[place : place + (last - first) * size]
        copy_numbers(data[first * width : last * width], part)
    return out.reshape(-1, size) if layout.shape else out


def _read_lists(wanted: BranchRange, dtype: np.dtype[Any], header: int, scratch: Scratch) -> Jagged:
    baskets, width = _stored(wanted), dtype.itemsize
    offsets = np.zeros(wanted.stop - wanted.start + 1, np.int64)
    # the most that there can be; memory that is not written to takes none
    content = np.empty(sum(stored.header.border // width for stored in baskets), dtype)
    done = 0
    for stored in baskets:
        basket, (data, ends) = stored.basket, stored.content(scratch)
        if ends is None or len(ends) != basket.entries + 1 or ends[-1] != len(data):
            raise UnusualError("other lists than entries")
        wanted.keep(basket, data, ends)
        own = list_offsets(ends, width, header)
        first, last = basket.part(wanted.start, wanted.stop)
        if first or last < basket.entries:
            edges = ends if header else own * width
            data = data[int(edges[first]) : int(edges[last])]
            own = own[first : last + 1] - own[first]
        before = int(offsets[done])
        offsets[done : done + len(own)] = own + before
        done += len(own) - 1
        part = content[before : int(offsets[done])]
        if header:
            copy_lists(data, own, header, part)
        else:
            copy_numbers(data, part)
    part = content[:0]
    content.resize(int(offsets[-1]), refcheck=False)  # in place; there is no view any more
    return Jagged(content, offsets)
