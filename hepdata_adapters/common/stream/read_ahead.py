"""Chunks one ahead of the consumer: while batches are taken from some, the next one is made."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from hepdata_adapters.common.core.fork_gate import ForkGate
from hepdata_adapters.common.core.ledger import LedgerKind
from hepdata_adapters.common.plan.plan import Chunk, Piece, Plan
from hepdata_adapters.common.plan.shard import RankShare, Shard
from hepdata_adapters.common.stream.chunk_loader import LoadedChunk

AHEAD = 1  # chunks: more would only take memory, as each is made by all threads


class Step(NamedTuple):
    """A global batch to deliver. left_out: events after it that no rank is to deliver, and why."""

    plan: Plan
    batch: int
    left_out: int = 0
    reason: LedgerKind = "events dropped for equal ranks"


class ChunkRows(NamedTuple):
    """Events ``first`` to ``last`` of a chunk."""

    chunk: LoadedChunk
    first: int
    last: int


class LocatedStep(NamedTuple):
    """A step, the rank's part of it, and the chunks where that lies. new: to be made for it."""

    step: Step
    share: RankShare
    pieces: list[Piece]
    new: list[bool]


def located(steps: Iterable[Step], shard: Shard) -> Iterator[LocatedStep]:
    """Where the rank's rows of each step are, with one chunk of each canonical stream at a time."""
    present: Plan | None = None
    held: dict[int, Chunk] = {}
    for step in steps:
        plan = step.plan
        if plan is not present:
            held.clear()
            present = plan
        share = shard.share(step.batch, plan.rows(step.batch), plan.rows(0))
        pieces = plan.locate(*share[:3])
        for row in share.wrapped:
            pieces += plan.locate(0, row, row + 1)
        new = []
        for piece in pieces:
            new.append(held.get(piece.stream) != piece.chunk)
            held[piece.stream] = piece.chunk
        yield LocatedStep(step, share, pieces, new)


class ReadAhead:
    """Makes chunks in the order in which steps need them.

    load: makes one. threads: with one, each is made when it is needed.
    """

    def __init__(self, load: Callable[[Plan, Chunk], LoadedChunk], threads: int) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(1, "hepdata-chunks") if threads > 1 else None

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:  # what is under way reads files that the next pass reads, too
            self._pool.shutdown(cancel_futures=True)

    def rows(
        self, steps: Iterable[Step], shard: Shard
    ) -> Iterator[tuple[Step, RankShare, list[ChunkRows]]]:
        """Each step with the rank's rows of it. Raises what ``load`` raises, where it is due."""
        coming = located(steps, shard)
        waiting: deque[LocatedStep] = deque()
        loads: deque[Callable[[], LoadedChunk]] = deque()

        def begin() -> None:
            while not waiting or (self._pool and len(loads) < AHEAD):
                if (next_step := next(coming, None)) is None:
                    return
                waiting.append(next_step)
                for piece, new in zip(next_step.pieces, next_step.new, strict=True):
                    if new:
                        loads.append(self._begun(next_step.step.plan, piece.chunk))

        present: Plan | None = None
        held: dict[int, LoadedChunk] = {}
        begin()
        while waiting:
            step, share, pieces, new = waiting.popleft()
            if step.plan is not present:
                held.clear()
                present = step.plan
            rows = []
            for piece, is_new in zip(pieces, new, strict=True):
                if is_new:
                    held.pop(piece.stream, None)  # the old one goes first
                    held[piece.stream] = loads.popleft()()
                    begin()
                rows.append(ChunkRows(held[piece.stream], piece.first, piece.last))
            begin()
            yield step, share, rows
            rows = []

    def _begun(self, plan: Plan, chunk: Chunk) -> Callable[[], LoadedChunk]:
        if self._pool is None:
            return partial(self._load, plan, chunk)
        load: Future[LoadedChunk] = self._pool.submit(self._guarded, plan, chunk)
        return load.result

    def _guarded(self, plan: Plan, chunk: Chunk) -> LoadedChunk:
        with _gate:
            return self._load(plan, chunk)


_gate = ForkGate()
_gate.watch()  # here, behind all imports: before the guard of remote reads stops those of a chunk
