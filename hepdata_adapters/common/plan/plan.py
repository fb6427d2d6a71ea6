"""The plan: the order of all events of an epoch, as a pure function. No I/O here.

*Groups.* The events of a split come in groups (a file, or a sample whose files follow each
other); each group is a sequence of units (cluster-aligned entry ranges) in a seeded order.

*Shares.* ``GroupShares`` says how many events of each group lie before position T of the epoch,
for any T, without state: a binary tree over the groups in which each node hands
``floor(A·n_left/n_node + phase)`` of its first A events to its left child. The counts add up
to T exactly and never decrease, so every event has one place. Over any stretch of positions a
child is off its share by less than 1 + p·(what its parent is off), p its share of the parent:
less than one event for two groups, less than two for halving trees.

*Streams.* An epoch has S = ranks x workers canonical streams. A global batch of G events is
cut into one slice a canonical rank; slice l of batch g comes from stream (g mod workers, l).
So the number of events in each stream is known, and each stream owns one contiguous stretch of
positions, cut into chunks of at most ``chunk_size`` events that are shuffled inside. Unlike
striding chunks over streams, this lets a stream consume each unit once, start to end. The first
chunk of stream w of W is the (w + 1)/W-th part of one, so that the streams, which are consumed
side by side, do not all need their next chunk at once.

*Who executes.* Where global batch g lies is a function of g alone. Any process can find any
rows of it (`Plan.locate`), so the sequence of batches is the same for all numbers of ranks
(at the same global batch size) and workers. Numbers that divide the canonical ones read no
chunk twice; all others are as correct and read some chunks once per worker.

*Without shuffling* there is one group in file order, and batch g is simply the g-th stretch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.hashing import key, permutation

CANONICAL_WORKERS = 4  # each holds a chunk and units; more processes read chunks twice
ORDER = 2  # version of the order: what is below decides it


@dataclass(frozen=True, eq=False)
class PlanFile:
    """One file as the plan sees it.

    number: its place in the manifest. counts: ``(units,)`` int64, the events of the split (or
    selection) that each unit holds. label: the class that the counts are of, if not of all.
    """

    number: int
    counts: NDArray[np.int64]
    label: int | None = None

    @cached_property
    def events(self) -> int:
        return int(self.counts.sum())


@dataclass(frozen=True, eq=False)
class LazyPlanFile:
    """A `PlanFile` whose counts are asked for only while its events are under way.

    A plan of 100,000 files of such needs memory for the files, not for their units.
    """

    number: int
    events: int
    read: Callable[[], NDArray[np.int64]]
    label: int | None = None

    @property
    def counts(self) -> NDArray[np.int64]:
        return self.read()


AnyPlanFile = PlanFile | LazyPlanFile


class UnitRange(NamedTuple):
    """Events ``first`` to ``last`` among those that count in one unit of one file."""

    file: int
    unit: int
    first: int
    last: int
    label: int | None = None


class Chunk(NamedTuple):
    """Positions ``start`` to ``stop`` of the epoch, read and shuffled together."""

    start: int
    stop: int


class Piece(NamedTuple):
    """Rows ``first`` to ``last`` of a chunk (after its shuffle), part of a batch.

    stream: the canonical stream that the chunk belongs to; it needs one chunk at a time.
    """

    chunk: Chunk
    stream: int
    first: int
    last: int


class GroupShares:
    """Exact, monotone apportionment of positions to groups; see the module docstring.

    >>> shares = GroupShares([3000, 10, 1003])
    >>> shares.before(4013), shares.before(2006), sum(shares.before(1234))
    ([3000, 10, 1003], [1500, 5, 501], 1234)
    """

    def __init__(self, sizes: Sequence[int], *seed: int | str) -> None:
        self.sizes = list(sizes)
        order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
        self._nodes: list[tuple[int, int, int, int, int]] = []
        self._root = self._build(order, seed) if order else None

    def _build(self, members: list[int], seed: tuple[int | str, ...]) -> int:
        """Add the node of these groups (largest first); leaves are ~group."""
        if len(members) == 1:
            return ~members[0]
        total = sum(self.sizes[i] for i in members)
        cut, left = 1, self.sizes[members[0]]
        while cut < len(members) - 1 and 2 * (left + self.sizes[members[cut]]) <= total:
            left += self.sizes[members[cut]]
            cut += 1
        number = len(self._nodes)
        phase = key("phase", number, *seed) % total if seed and total else total // 2
        self._nodes.append((0, 0, left, total, phase))
        children = self._build(members[:cut], seed), self._build(members[cut:], seed)
        self._nodes[number] = (*children, left, total, phase)
        return number

    def before(self, position: int) -> list[int]:
        """How many events of each group lie before ``position``."""
        counts = [0] * len(self.sizes)
        stack = [] if self._root is None else [(self._root, position)]
        while stack:
            node, events = stack.pop()
            if node < 0:
                counts[~node] = events
                continue
            left, right, weight, total, phase = self._nodes[node]
            share = (events * weight + phase) // total if total else 0
            stack += [(left, share), (right, events - share)]
        return counts


class Plan:
    """The order of the events of one epoch.

    groups: each a list of files. batch_size: events in a global batch, all ranks together.
    canonical_ranks, canonical_workers: the streams (see the module docstring); with
    ``shuffle=False`` they have no effect.
    sizes: events that an epoch takes of each group, if not all of them once. A group then is an
    endless sequence, one order of its events after another, and each epoch goes on in it: fewer
    events are others in each epoch, more come as equally often as can be.

    >>> files = [[PlanFile(0, np.array([5]))], [PlanFile(1, np.array([3]))]]
    >>> plan = Plan(files, seed=1, epoch=0, batch_size=3, chunk_size=4)
    >>> plan.events, plan.batches, [plan.rows(g) for g in range(3)]
    (8, 3, [3, 3, 2])
    """

    def __init__(
        self,
        groups: Sequence[Sequence[AnyPlanFile]],
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        chunk_size: int,
        shuffle: bool = True,
        canonical_ranks: int = 1,
        canonical_workers: int = CANONICAL_WORKERS,
        sizes: Sequence[int] | None = None,
    ) -> None:
        for name, value in (
            ("batch_size", batch_size),
            ("chunk_size", chunk_size),
            ("canonical_ranks", canonical_ranks),
            ("canonical_workers", canonical_workers),
        ):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if not shuffle and sizes is None:
            groups = [[file for group in groups for file in group]]
        self.seed, self.epoch, self.shuffle = seed, epoch, shuffle
        self.batch_size, self.chunk_size = batch_size, chunk_size
        self.ranks, self.workers = canonical_ranks, canonical_workers
        self._groups = [
            _Group(files, None if sizes is None else sizes[number], seed, epoch, number, shuffle)
            for number, files in enumerate(groups)
        ]
        self._shares = GroupShares(
            [group.events for group in self._groups], *(("shares", seed, epoch) if shuffle else ())
        )
        self.events = sum(group.events for group in self._groups)
        self.batches = -(-self.events // batch_size)
        self._sizes = self._stream_sizes()
        self._starts = self._stream_starts()

    def rows(self, batch: int) -> int:
        """Events in global batch ``batch``: the batch size, or what remains for the last."""
        return min(self.batch_size, self.events - batch * self.batch_size)

    def locate(self, batch: int, first: int, last: int) -> list[Piece]:
        """Where rows ``first`` to ``last`` of a global batch are, in order."""
        rows = self.rows(batch)
        if not 0 <= first <= last <= rows:
            raise IndexError(f"batch {batch} has {rows} rows, not {first} to {last}")
        if not self.shuffle:
            start = batch * self.batch_size
            chunk = Chunk(start + first, start + last)
            return [Piece(chunk, 0, 0, last - first)] if last > first else []
        pieces: list[Piece] = []
        for rank in range(self.ranks):
            low, high = rank * rows // self.ranks, (rank + 1) * rows // self.ranks
            low, high = max(low, first) - low, min(high, last) - low
            if high > low:
                stream = batch % self.workers * self.ranks + rank
                before = batch // self.workers * self._slice(rank, self.batch_size)
                pieces += self._stream_pieces(stream, before + low, before + high)
        return pieces

    def parts(self, chunk: Chunk) -> list[UnitRange]:
        """The unit ranges whose events, one after the other, make up a chunk."""
        bounds = zip(self._shares.before(chunk.start), self._shares.before(chunk.stop), strict=True)
        return [
            part
            for group, (first, last) in zip(self._groups, bounds, strict=True)
            for part in group.parts(first, last)
        ]

    def order(self, chunk: Chunk) -> NDArray[np.int64]:
        """The shuffle inside a chunk: delivered row i is event ``order[i]`` of `parts`."""
        size = chunk.stop - chunk.start
        if not self.shuffle:
            return np.arange(size)
        return permutation(size, "chunk", self.seed, self.epoch, chunk.start)

    def _slice(self, rank: int, rows: int) -> int:
        return (rank + 1) * rows // self.ranks - rank * rows // self.ranks

    def _stream_sizes(self) -> list[int]:
        full, rest = divmod(self.events, self.batch_size)
        sizes = []
        for worker in range(self.workers):
            batches = -(-max(full - worker, 0) // self.workers)
            for rank in range(self.ranks):
                size = batches * self._slice(rank, self.batch_size)
                if worker == full % self.workers:
                    size += self._slice(rank, rest)
                sizes.append(size)
        return sizes

    def _stream_starts(self) -> list[int]:
        """First position of each stream.

        Streams of one rank follow each other, and among them those that 2 or 4 workers share
        out: a process then reads whole stretches of files, and few units are read twice.
        """

        def neighbours(stream: int) -> tuple[int, int, int, int]:
            worker, rank = divmod(stream, self.ranks)
            return rank, worker % 2, worker % 4, worker

        starts, position = [0] * len(self._sizes), 0
        for stream in sorted(range(len(self._sizes)), key=neighbours):
            starts[stream] = position
            position += self._sizes[stream]
        return starts

    def _stream_pieces(self, stream: int, first: int, last: int) -> Iterator[Piece]:
        """Rows of a stream as rows of its chunks, which are cut evenly but for the first and last.

        Chunk k ends before row ``size · (k + phase / parts) / chunks``, rounded down.
        """
        size, start = self._sizes[stream], self._starts[stream]
        chunks = -(-size // self.chunk_size)
        parts = self.workers if chunks > 1 else 1  # what fits into one chunk is not cut
        phase = stream // self.ranks + 1 if chunks > 1 else 1

        def end_of(chunk: int) -> int:
            return min(size, size * (chunk * parts + phase) // (chunks * parts))

        while first < last:
            number = (((first + 1) * chunks * parts - 1) // size - phase) // parts + 1
            low, high = end_of(number - 1) if number else 0, end_of(number)
            end = min(high, last)
            yield Piece(Chunk(start + low, start + high), stream, first - low, end - low)
            first = end


class _Group:
    """The events of a group in one epoch: a stretch of its orders, one after another."""

    def __init__(
        self,
        files: Sequence[AnyPlanFile],
        events: int | None,
        seed: int,
        epoch: int,
        number: int,
        shuffle: bool,
    ) -> None:
        def order(turn: int) -> _Sequence:
            return _Sequence(files, ("units", seed, turn, number) if shuffle else None)

        self._order = lru_cache(maxsize=2)(order)
        self._all = sum(file.events for file in files)
        self.events = self._all if events is None or not self._all else events
        self._start = epoch * self.events

    def parts(self, first: int, last: int) -> Iterator[UnitRange]:
        """Events ``first`` to ``last`` of the epoch as ranges of units."""
        while first < last:
            turn, place = divmod(self._start + first, self._all)
            stop = min(place + last - first, self._all)
            yield from self._order(turn).parts(place, stop)
            first += stop - place


class _Sequence:
    """The events of a group in the order of the epoch: files, then the units of each file."""

    def __init__(self, files: Sequence[AnyPlanFile], seed: tuple[int | str, ...] | None) -> None:
        self._seed = seed
        order = permutation(len(files), "files", *seed) if seed else range(len(files))
        self._files = [files[i] for i in order]
        self._starts = np.cumsum([0] + [file.events for file in self._files])
        self.events = int(self._starts[-1])
        # few files of a group are under way at a time; the unit tables of the rest can wait
        self._units = lru_cache(maxsize=64)(self._unit_order)

    def _unit_order(self, place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        file, counts = self._files[place], self._files[place].counts
        units = np.arange(len(counts))
        if self._seed:
            units = permutation(len(units), "file", file.number, *self._seed)
        return units, np.concatenate(([0], np.cumsum(counts[units], dtype=np.int64)))

    def parts(self, first: int, last: int) -> Iterator[UnitRange]:
        """Events ``first`` to ``last`` of the sequence as ranges of units."""
        place = int(np.searchsorted(self._starts, first, "right")) - 1
        while first < last:
            units, starts = self._units(place)
            base = int(self._starts[place])
            slot = int(np.searchsorted(starts, first - base, "right")) - 1
            while slot < len(units) and first < last:
                low, high = base + int(starts[slot]), base + int(starts[slot + 1])
                end = min(high, last)
                if end > first:
                    file = self._files[place]
                    unit = int(units[slot])
                    yield UnitRange(file.number, unit, first - low, end - low, file.label)
                    first = end
                slot += 1
            place += 1
