"""The measures of a shuffle: 1 for a full one, and known values for bad ones."""

from __future__ import annotations

import numpy as np
import pytest

from hepdata_adapters.common.plan.plan import Plan, PlanFile
from hepdata_adapters.common.plan.shuffle_quality import (
    class_spread,
    neighbour_distance,
    unit_reads,
)

EVENTS, BATCH = 20_000, 200


def batches_of(events: np.ndarray) -> list[np.ndarray]:
    return np.array_split(events, EVENTS // BATCH)


def test_a_full_shuffle_has_1():
    random = np.random.default_rng(0)
    order = random.permutation(EVENTS)
    classes = [batch * 4 // EVENTS for batch in batches_of(order)]
    # chi-square of 3 degrees of freedom, mean of 100 batches: sigma 0.08
    assert class_spread(classes, [EVENTS // 4] * 4) == pytest.approx(1, abs=0.4)
    rows = [np.stack([np.zeros_like(b), b], axis=1) for b in batches_of(order)]
    # a distance has 0.71 of its mean as standard deviation; 19,900 of them
    assert neighbour_distance(rows, [EVENTS]) == pytest.approx(1, abs=0.05)


def test_events_in_file_order_have_the_worst_values():
    order = np.arange(EVENTS)
    classes = [batch * 4 // EVENTS for batch in batches_of(order)]
    assert class_spread(classes, [EVENTS // 4] * 4) > BATCH / 2
    rows = [np.stack([np.zeros_like(b), b], axis=1) for b in batches_of(order)]
    assert neighbour_distance(rows, [EVENTS]) == pytest.approx(3 / (EVENTS + 1))


def test_neighbours_are_sought_within_each_file_and_padding_is_none():
    rows = np.array([[0, 5], [1, 0], [0, 7], [-1, -1], [1, 9]])
    # 2 of 4 expected in a file of 11, 9 of 4
    assert neighbour_distance([rows], [11, 11]) == pytest.approx((2 + 9) / 2 / 4)


def test_what_cannot_be_measured_is_nan():
    assert np.isnan(class_spread([np.zeros(3, int)], [6]))
    assert np.isnan(class_spread([np.array([0, 1])], [1, 1]))
    assert np.isnan(class_spread([], []))
    assert np.isnan(neighbour_distance([np.array([[0, 1]])], [4]))


def test_a_class_without_events_does_not_count():
    batches = [np.array([0, 0]), np.array([2, 2])]
    assert class_spread(batches, [2, 0, 2]) == class_spread([b // 2 for b in batches], [2, 2])


def plan_of(groups: int, units: int) -> Plan:
    files = [[PlanFile(number, np.full(units, 1000))] for number in range(groups)]
    return Plan(files, seed=0, epoch=0, batch_size=100, chunk_size=500, canonical_workers=12)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_units_are_read_again_at_the_edges_of_streams_only(workers):
    found = unit_reads(plan_of(2, 60), workers=workers)
    assert found.units == 120
    assert 0 <= found.reads - found.units <= 12 * 2


def test_workers_that_do_not_divide_the_canonical_ones_read_more():
    plan = plan_of(2, 60)
    assert unit_reads(plan, workers=5).again > unit_reads(plan, workers=4).again


def test_a_cache_smaller_than_streams_times_groups_reads_units_for_every_chunk():
    plan = plan_of(8, 30)
    enough, small = unit_reads(plan, cached=12 * 8 * 2), unit_reads(plan, cached=8)
    assert enough.again < 0.5
    assert small.again > 5


def test_no_events_need_no_reads():
    plan = Plan([[PlanFile(0, np.zeros(0, np.int64))]], seed=0, epoch=0, batch_size=1, chunk_size=1)
    assert unit_reads(plan).again == 0
