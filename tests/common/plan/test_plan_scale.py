"""The bars of the plan: all combinations of ranks and workers, shares, 10^12 events in 10^5 files.

No file is read: the passes run over plans whose events are numbers.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.plan.plan import Chunk, LazyPlanFile, Plan, PlanFile
from hepdata_adapters.common.stream.epoch import Epoch, EpochOptions

ROOT = Path(__file__).resolve().parents[3]
SIZES = (0, 1, 7, 97, 10007)
RANKS = range(1, 9)
WORKERS = range(9)
GLOBAL_BATCH = 840  # divisible by all ranks from 1 to 8
runs = st.tuples(st.sampled_from([1, 2, 3, 4, 6, 8]), st.integers(0, 8))
DIVISORS = [(ranks, workers) for ranks in (1, 2, 4, 8) for workers in (0, 1, 2, 3, 4, 6)]


def files_of(size: int, unit: int = 300) -> list[PlanFile]:
    """``size`` events in four files of unequal sizes, one of them empty, in units of ``unit``."""
    edges = [0, size // 7, size // 7, size - size // 3, size]
    return [
        PlanFile(number, np.diff([*range(low, high, unit), high]))
        for number, (low, high) in enumerate(pairwise(edges))
    ]


class NumberedStream:
    """Takes the place of an `EventStream`: delivers the numbers of the events of plan files."""

    split = None

    def __init__(self, files: list[PlanFile], chunk_size: int) -> None:
        counts = [file.counts for file in files]
        units = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        places = np.cumsum([0, *map(len, counts)])
        self.first = {
            (n, u): int(units[places[n] + u]) for n, c in enumerate(counts) for u in range(len(c))
        }
        self.events = int(units[-1])
        sampling = SimpleNamespace(chunk_size=chunk_size, canonical_workers=12)
        self.dataset = SimpleNamespace(
            events=lambda split: self.events,
            config=SimpleNamespace(sampling=sampling),
            plan=lru_cache(maxsize=4)(
                lambda split, **options: Plan(
                    [[file] for file in files], chunk_size=chunk_size,
                    **options | {"canonical_workers": options["canonical_workers"] or 12},
                )
            ),
        )  # fmt: skip
        self.load = lru_cache(maxsize=256)(self._load)

    def _load(self, plan: Plan, chunk: Chunk) -> np.ndarray:
        ranges = [
            np.arange(part.first, part.last) + self.first[part.file, part.unit]
            for part in plan.parts(chunk)
        ]
        return np.concatenate(ranges)[plan.order(chunk)]

    def batches(self, steps, shard, *_) -> Iterator[tuple[np.ndarray, int]]:
        for step in steps:
            share = shard.share(step.batch, step.plan.rows(step.batch), step.plan.rows(0))
            pieces = step.plan.locate(step.batch, share.first, share.last)
            rows = [self.load(step.plan, p.chunk)[p.first : p.last] for p in pieces]
            yield np.concatenate(rows or [np.zeros(0, np.int64)]), share.padding


def deliver(stream: NumberedStream, epoch: Epoch, workers: int) -> list[np.ndarray]:
    """The global batches, as ranks with a DataLoader of so many workers get them."""
    processes = max(workers, 1)
    ranks = []
    for rank in range(epoch.world_size):
        own = replace(epoch, rank=rank)
        parts = [list(own.batches(stream, None, w, processes)) for w in range(processes)]
        total = sum(map(len, parts))
        ranks.append([parts[step % processes][step // processes] for step in range(total)])
    assert len({len(steps) for steps in ranks}) == 1, "ranks must make the same steps"
    for batches in zip(*ranks, strict=True):
        assert len({len(rows) + padding for rows, padding in batches}) == 1
    return [np.concatenate([rows for rows, _ in batches]) for batches in zip(*ranks, strict=True)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("size", SIZES)
def test_every_event_comes_once_for_all_ranks_and_workers(size, ranks, shuffle):
    stream = NumberedStream(files_of(size), chunk_size=500)
    for workers in WORKERS:
        for per_rank in (3, 64) if size < 100 else (64,):
            # canonical counts of another job: of one rank, and of as many as there are
            for canonical in (1, ranks):
                wanted = EpochOptions(per_rank, shuffle, 1, canonical_ranks=canonical).epoch(
                    number=2, rank=0, world_size=ranks
                )
                batches = deliver(stream, wanted, workers)
                events = np.concatenate([np.zeros(0, np.int64), *batches])
                np.testing.assert_array_equal(np.sort(events), np.arange(size))
                assert len(batches) == -(-size // (per_rank * ranks))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_global_batches_are_byte_identical_for_all_divisors_of_the_canonical_counts(size, shuffle):
    stream = NumberedStream(files_of(size), chunk_size=500)

    def content(ranks: int, workers: int) -> list[bytes]:
        wanted = EpochOptions(GLOBAL_BATCH // ranks, shuffle, 3, canonical_ranks=8).epoch(
            number=1, rank=0, world_size=ranks
        )
        return [batch.tobytes() for batch in deliver(stream, wanted, workers)]

    first = content(1, 0)
    assert len(first) == -(-size // GLOBAL_BATCH)
    for ranks, workers in DIVISORS:
        assert content(ranks, workers) == first


def test_global_batches_are_identical_for_all_other_numbers_too():
    """The plan promises it for divisors only; random access gives it for all."""
    stream = NumberedStream(files_of(10007), chunk_size=500)
    passes = {
        ranks: EpochOptions(GLOBAL_BATCH // ranks, True, 0, canonical_ranks=8).epoch(
            rank=0, world_size=ranks
        )
        for ranks in RANKS
    }
    first = [batch.tobytes() for batch in deliver(stream, passes[1], 0)]
    for ranks, workers in [(3, 5), (5, 7), (6, 8), (7, 3)]:
        assert [b.tobytes() for b in deliver(stream, passes[ranks], workers)] == first


@given(
    sizes=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=1, max_size=5),
    before=runs,
    after=runs,
    stop=st.floats(0, 1),
    chunk_size=st.integers(1, 80),
    shuffle=st.booleans(),
    canonical=st.integers(1, 8),
)
def test_an_epoch_goes_on_at_the_next_event_on_any_ranks_and_workers(
    sizes, before, after, stop, chunk_size, shuffle, canonical
):
    files = [PlanFile(number, np.array(counts)) for number, counts in enumerate(sizes)]
    stream = NumberedStream(files, chunk_size)

    def rest(run: tuple[int, int], start: int) -> list[list[int]]:
        ranks, workers = run
        wanted = EpochOptions(24 // ranks, shuffle, 5, canonical_ranks=canonical).epoch(
            rank=0, world_size=ranks, start=start
        )
        return [batch.tolist() for batch in deliver(stream, wanted, workers)]

    whole = rest((1, 0), 0)
    assert sorted(event for batch in whole for event in batch) == list(range(stream.events))
    cut = int(stop * len(whole))
    assert rest(before, 0)[:cut] + rest(after, cut) == whole


@pytest.mark.parametrize("chunk_size", [1, 70, 333, 10**6])
def test_chunks_of_3000_10_and_1003_events_hold_their_shares(chunk_size):
    """MLaaS4HEP lost the second file and a part of the first."""
    sizes = [3000, 10, 1003]
    files = [[PlanFile(n, np.full(-(-size // 100), 100))] for n, size in enumerate(sizes)]
    for group, size in zip(files, sizes, strict=True):
        group[0].counts[-1] -= len(group[0].counts) * 100 - size
    for seed in range(5):
        plan = Plan(
            files, seed=seed, epoch=0, batch_size=256, chunk_size=chunk_size, canonical_ranks=2
        )
        chunks = sorted({
            piece.chunk
            for batch in range(plan.batches)
            for piece in plan.locate(batch, 0, plan.rows(batch))
        })  # fmt: skip
        assert chunks[0].start == 0
        assert chunks[-1].stop == sum(sizes)
        assert all(one.stop == two.start for one, two in pairwise(chunks))
        total = np.zeros(3, int)
        for chunk in chunks:
            held = np.zeros(3, int)
            for part in plan.parts(chunk):
                held[part.file] += part.last - part.first
            share = np.array(sizes) * (chunk.stop - chunk.start) / sum(sizes)
            assert np.abs(held - share).max() <= 2
            total += held
        assert total.tolist() == sizes


def test_lazy_files_give_the_same_plan():
    files = files_of(997, unit=50)
    lazy = [LazyPlanFile(f.number, f.events, lambda counts=f.counts: counts) for f in files]
    plans = [
        Plan([list(group)], seed=0, epoch=0, batch_size=64, chunk_size=100)
        for group in (files, lazy)
    ]
    for batch in range(plans[0].batches):
        one, two = ([p.parts(c.chunk) for c in p.locate(batch, 0, p.rows(batch))] for p in plans)
        assert one == two


def test_a_plan_of_100000_files_and_10_to_the_12_events_is_small():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "plan_scale.py")],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    print(done.stdout)  # the times are for those who read them; only memory is asserted
    assert "100,000 files, 1,000,000,000,000 events" in done.stdout
    assert int(re.search(r"memory: (\d+) MB", done.stdout)[1]) < 500
