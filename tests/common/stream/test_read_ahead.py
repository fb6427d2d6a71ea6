"""Chunks one ahead: in order, never more than one, their errors where they are due."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import numpy as np
import pytest

from hepdata_adapters.common.plan.plan import Chunk, Plan, PlanFile
from hepdata_adapters.common.plan.shard import Shard
from hepdata_adapters.common.stream.chunk_loader import LoadedChunk
from hepdata_adapters.common.stream.read_ahead import ReadAhead, Step, located


def plan_of(events: int = 1000, epoch: int = 0) -> Plan:
    return Plan(
        [[PlanFile(0, np.array([events]))]], seed=0, epoch=epoch, batch_size=32, chunk_size=60,
        canonical_workers=3,
    )  # fmt: skip


def steps_of(*plans: Plan) -> list[Step]:
    return [Step(plan, batch) for plan in plans for batch in range(plan.batches)]


def loaded(plan: Plan, chunk: Chunk) -> LoadedChunk:
    columns = {"event": np.arange(chunk.start, chunk.stop) + 10_000 * plan.epoch}
    return LoadedChunk(columns, np.zeros(0, np.int64), np.zeros((0, len(columns["event"]))))


@pytest.mark.parametrize("threads", [1, 2])
def test_each_row_comes_from_the_chunk_where_the_plan_has_it(threads: int) -> None:
    plans = plan_of(), plan_of(epoch=1)
    found = []
    with ReadAhead(loaded, threads) as ahead:
        for step, share, rows in ahead.rows(steps_of(*plans), Shard()):
            events = np.concatenate(
                [np.asarray(one.chunk.columns["event"])[one.first : one.last] for one in rows]
            )
            expected = np.concatenate(
                [
                    np.arange(piece.chunk.start + piece.first, piece.chunk.start + piece.last)
                    for piece in step.plan.locate(step.batch, share.first, share.last)
                ]
            )
            assert np.array_equal(events, expected + 10_000 * step.plan.epoch)
            found.append(events)
    assert sorted(np.concatenate(found)) == [*range(1000), *range(10_000, 11_000)]


@pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 1)])
def test_no_more_than_one_is_made_ahead(threads: int, most: int) -> None:
    made: list[Chunk] = []
    used: list[Chunk] = []

    def load(plan: Plan, chunk: Chunk) -> LoadedChunk:
        made.append(chunk)
        return loaded(plan, chunk)

    with ReadAhead(load, threads) as ahead:
        for step, share, _ in ahead.rows(steps_of(plan_of()), Shard()):
            for piece in step.plan.locate(step.batch, share.first, share.last):
                if piece.chunk not in used:
                    used.append(piece.chunk)
            time.sleep(0.002)  # time to make too many
            assert len(made) - len(used) <= most
    assert made == used


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_where_its_chunk_is_due(threads: int) -> None:
    plan = plan_of()
    chunks = [
        piece.chunk
        for one in located(steps_of(plan), Shard())
        for piece, new in zip(one.pieces, one.new, strict=True)
        if new
    ]
    bad = chunks[7]

    def load(plan: Plan, chunk: Chunk) -> LoadedChunk:
        if chunk == bad:
            raise ValueError("unreadable")
        return loaded(plan, chunk)

    due = next(
        one.step.batch
        for one in located(steps_of(plan), Shard())
        if bad in [piece.chunk for piece in one.pieces]
    )
    delivered = []

    def deliver() -> None:
        with ReadAhead(load, threads) as ahead:
            for step, *_ in ahead.rows(steps_of(plan), Shard()):
                delivered.append(step)

    with pytest.raises(ValueError, match="unreadable"):
        deliver()
    assert len(delivered) == due > 5


def test_no_thread_is_left_where_the_consumer_stops_early() -> None:
    with ReadAhead(loaded, 2) as ahead:
        for number, _ in enumerate(ahead.rows(steps_of(plan_of()), Shard())):
            if number == 4:
                break
    assert not [one for one in threading.enumerate() if one.name.startswith("hepdata-chunks")]


def test_an_endless_stream_is_looked_at_no_further_than_its_next_chunk() -> None:
    plan, asked = plan_of(), []

    def endless() -> Any:
        for number in range(10**9):
            asked.append(number)
            yield Step(plan, number % plan.batches)

    with ReadAhead(loaded, 2) as ahead:
        rows = ahead.rows(cast("Any", endless()), Shard())
        for _ in range(100):
            next(rows)
    assert len(asked) < 100 + plan.batches
