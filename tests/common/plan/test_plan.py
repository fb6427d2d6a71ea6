"""The plan: every event once, in proportion, whoever executes it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.plan.plan import GroupShares, Plan, PlanFile
from hepdata_adapters.common.plan.shard import Shard

units = st.lists(st.integers(0, 40), min_size=1, max_size=6)
groups = st.lists(st.lists(units, min_size=1, max_size=3), min_size=1, max_size=6)
Event = tuple[int, int, int]


def make_groups(counts: list[list[list[int]]]) -> list[list[PlanFile]]:
    number = iter(range(1000))
    return [[PlanFile(next(number), np.array(file)) for file in group] for group in counts]


def all_events(counts: list[list[list[int]]]) -> Counter[Event]:
    files = [file for group in counts for file in group]
    return Counter(
        (number, unit, event)
        for number, file in enumerate(files)
        for unit, size in enumerate(file)
        for event in range(size)
    )


def chunk_events(plan: Plan, chunk) -> list[Event]:
    events = [
        (part.file, part.unit, event)
        for part in plan.parts(chunk)
        for event in range(part.first, part.last)
    ]
    return [events[i] for i in plan.order(chunk)]


def rank_batch(plan: Plan, shard: Shard, batch: int) -> list[Event]:
    share = shard.share(batch, plan.rows(batch))
    return [
        event
        for piece in plan.locate(share.batch, share.first, share.last)
        for event in chunk_events(plan, piece.chunk)[piece.first : piece.last]
    ]


@given(
    counts=groups,
    ranks=st.integers(1, 8),
    canonical_ranks=st.integers(1, 4),
    canonical_workers=st.integers(1, 12),
    workers=st.integers(1, 8),
    per_rank=st.integers(1, 9),
    chunk_size=st.integers(1, 50),
    shuffle=st.booleans(),
    seed=st.integers(0, 3),
)
def test_every_event_once_for_any_ranks_and_workers(
    counts, ranks, canonical_ranks, canonical_workers, workers, per_rank, chunk_size, shuffle, seed
):
    plan = Plan(
        make_groups(counts), seed=seed, epoch=1, batch_size=per_rank * ranks,
        chunk_size=chunk_size, shuffle=shuffle, canonical_ranks=canonical_ranks,
        canonical_workers=canonical_workers,
    )  # fmt: skip
    delivered: Counter[Event] = Counter()
    for rank in range(ranks):
        rows = []
        for worker in range(workers):
            shard = Shard(rank, ranks, worker, workers)
            for batch in shard.batches(plan.batches):
                events = rank_batch(plan, shard, batch)
                delivered.update(events)
                rows.append(len(events) + shard.share(batch, plan.rows(batch)).padding)
        assert len(rows) == plan.batches
        assert sum(rows) == sum(-(-plan.rows(batch) // ranks) for batch in range(plan.batches))
    assert delivered == all_events(counts)


@settings(deadline=None, max_examples=50)
@given(counts=groups, seed=st.integers(0, 3))
def test_global_batches_are_the_same_for_all_ranks_and_workers(counts, seed):
    plan = Plan(
        make_groups(counts), seed=seed, epoch=0, batch_size=24, chunk_size=10,
        canonical_ranks=4, canonical_workers=6,
    )  # fmt: skip
    whole = [rank_batch(plan, Shard(), batch) for batch in range(plan.batches)]
    for ranks in (2, 3, 4, 8):
        split = [
            [e for rank in range(ranks) for e in rank_batch(plan, Shard(rank, ranks), batch)]
            for batch in range(plan.batches)
        ]
        assert split == whole


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60), st.data())
def test_shares_add_up_and_never_decrease(sizes, data):
    seed = data.draw(st.sampled_from([(), (1,), ("a", 2)]))
    shares = GroupShares(sizes, *seed)
    total = sum(sizes)
    first = data.draw(st.integers(0, total))
    second = data.draw(st.integers(first, total))
    before, after = shares.before(first), shares.before(second)
    assert sum(before) == first
    assert sum(after) == second
    assert all(a <= b for a, b in zip(before, after, strict=True))
    assert shares.before(0) == [0] * len(sizes)
    assert shares.before(total) == sizes


@pytest.mark.parametrize("chunk_size", [1, 70, 333, 10**6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_chunk_holds_the_share_of_each_file_within_two_events(chunk_size, seed):
    sizes = [3000, 10, 1003]
    plan = Plan(
        [[PlanFile(number, np.array([size]))] for number, size in enumerate(sizes)],
        seed=seed, epoch=0, batch_size=100, chunk_size=chunk_size,
    )  # fmt: skip
    chunks = {
        piece.chunk
        for batch in range(plan.batches)
        for piece in plan.locate(batch, 0, plan.rows(batch))
    }
    total: Counter[int] = Counter()
    for chunk in chunks:
        held = Counter(event[0] for event in chunk_events(plan, chunk))
        size = chunk.stop - chunk.start
        assert size <= chunk_size
        for number, events in enumerate(sizes):
            assert abs(held[number] - events * size / sum(sizes)) <= 2
        total.update(held)
    assert [total[number] for number in range(3)] == sizes


def test_a_batch_mixes_the_files():
    plan = Plan(
        [[PlanFile(0, np.array([1000] * 5))], [PlanFile(1, np.array([5000]))]],
        seed=0, epoch=0, batch_size=200, chunk_size=2000,
    )  # fmt: skip
    for batch in range(plan.batches):
        held = Counter(event[0] for event in rank_batch(plan, Shard(), batch))
        # 200 of 2000, half of each file: hypergeometric, sigma 6.7
        assert abs(held[0] - 100) < 5 * 6.7


def test_epochs_have_different_orders_and_the_same_epoch_the_same():
    def order(epoch, shuffle=True):
        plan = Plan(
            [[PlanFile(0, np.array([50, 50, 50]))]], seed=0, epoch=epoch, batch_size=10,
            chunk_size=64, shuffle=shuffle,
        )  # fmt: skip
        return [rank_batch(plan, Shard(), batch) for batch in range(plan.batches)]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0, shuffle=False) == order(1, shuffle=False)
    in_order = [event for batch in order(0, shuffle=False) for event in batch]
    assert in_order == sorted(all_events([[[50, 50, 50]]]))


def test_a_stream_reads_each_unit_once_but_for_its_edges():
    """Units that several workers read cost decompression; only stream edges may split them."""
    units = [100] * 240
    plan = Plan([[PlanFile(0, np.array(units))]], seed=0, epoch=0, batch_size=50, chunk_size=500)
    readers: dict[int, set[int]] = {}
    for batch in range(plan.batches):
        for piece in plan.locate(batch, 0, plan.rows(batch)):
            for part in plan.parts(piece.chunk):
                readers.setdefault(part.unit, set()).add(piece.stream)
    assert sum(map(len, readers.values())) <= len(units) + plan.workers


@pytest.mark.parametrize(("workers", "ranks"), [(1, 1), (2, 1), (4, 1), (2, 3), (4, 2)])
def test_few_units_are_read_by_two_processes(workers, ranks):
    """Streams dealt out one by one made both of two workers decompress nearly every unit."""
    units = [1000] * 24
    plan = Plan(
        [[PlanFile(0, np.array(units))]], seed=0, epoch=0, batch_size=48, chunk_size=500,
        canonical_ranks=ranks,
    )  # fmt: skip
    readers: dict[int, set[tuple[int, int]]] = {}
    for batch in range(plan.batches):
        for rank in range(ranks):
            share = Shard(rank, ranks).share(batch, plan.rows(batch))
            for piece in plan.locate(batch, share.first, share.last):
                for part in plan.parts(piece.chunk):
                    readers.setdefault(part.unit, set()).add((rank, batch % workers))
    assert sum(map(len, readers.values())) <= len(units) + workers * ranks


def test_the_first_chunk_of_a_huge_epoch_needs_no_table():
    files = [[PlanFile(n, np.full(100, 10**6)) for n in range(g, 10_000, 10)] for g in range(10)]
    plan = Plan(files, seed=0, epoch=0, batch_size=1024, chunk_size=8192)
    assert plan.events == 10**12
    (piece,) = plan.locate(plan.batches // 2, 0, 100)
    assert sum(part.last - part.first for part in plan.parts(piece.chunk)) == (
        piece.chunk.stop - piece.chunk.start
    )


@pytest.mark.parametrize("name", ["batch_size", "chunk_size", "canonical_ranks"])
def test_sizes_below_one_are_refused(name):
    sizes = {"batch_size": 1, "chunk_size": 1, "canonical_ranks": 1} | {name: 0}
    with pytest.raises(ConfigError, match=name):
        Plan([[PlanFile(0, np.array([1]))]], seed=0, epoch=0, **sizes)


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(ConfigError, match="rank 2 is not among 2"):
        Shard(2, 2)
