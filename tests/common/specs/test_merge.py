"""Specs merged and updated are those of a single pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepdata_adapters import compute_specs
from hepdata_adapters.common.core.errors import DataError, SpecsError
from hepdata_adapters.common.specs.merge import merge_specs
from hepdata_adapters.common.specs.model import ClassStatistics
from hepdata_adapters.common.specs.sums import summarize
from hepdata_adapters.common.specs.update import update_specs
from hepdata_adapters.common.stream.dataset import Dataset
from tests.helpers import specs_files
from tests.helpers.specs_files import FLAT, SIZES, config_of, same_within_bounds, small_units

seven = specs_files.seven


# merging


def test_merged_from_seven_parts_equals_the_single_pass(seven):
    whole = compute_specs(config_of(*seven))
    merged = merge_specs([compute_specs(config_of(path)) for path in seven])
    same_within_bounds(merged, whole)
    merged.verify(whole.binding)


def test_merging_is_associative_and_keeps_the_bytes_of_a_pass_from_left_to_right(seven):
    a, b, c = (compute_specs(config_of(path)) for path in seven[:3])
    left, right = merge_specs([merge_specs([a, b]), c]), merge_specs([a, merge_specs([b, c])])
    same_within_bounds(left, right)
    assert left == compute_specs(config_of(*seven[:3])) == merge_specs([a, b, c])


weighted_values = st.integers(0, 40).flatmap(
    lambda size: st.tuples(
        arrays(np.float64, size, elements=st.floats(-1e6, 1e6)),
        arrays(np.float64, size, elements=st.sampled_from([0.0, 1e-3, 0.5, 1.0, 250.0])),
    )
)


@settings(deadline=None, max_examples=60)
@given(st.lists(weighted_values, min_size=3, max_size=3))
def test_weighted_statistics_merge_in_any_grouping(parts):
    a, b, c = (summarize(FLAT, values, weights) for values, weights in parts)
    values = np.concatenate([values for values, _ in parts])
    weights = np.concatenate([weights for _, weights in parts])
    for merged in (a.merge(b).merge(c), a.merge(b.merge(c))):
        assert merged.count == len(values)
        assert merged.weight == pytest.approx(weights.sum(), rel=1e-12)
        if weights.any():
            mean = np.average(values, weights=weights)
            variance = np.average((values - mean) ** 2, weights=weights)
            assert merged.mean == pytest.approx(mean, rel=1e-9, abs=1e-6)
            assert merged.std == pytest.approx(np.sqrt(variance), rel=1e-6, abs=1e-4)
            total = sum(weight for _, weight in merged.sketch)
            assert total == pytest.approx(weights.sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": {"seed": 3}}, "split.seed is 3, was 0"),
        ({"features": ["MET"]}, "only one has Jet_id, Jet_pt, passes"),
        ({"statistics": "weights"}, "the statistics are of weights, were of events"),
    ],
)
def test_specs_of_another_kind_do_not_merge(seven, change, said):
    with pytest.raises(SpecsError, match=said):
        merge_specs(
            [compute_specs(config_of(seven[0])), compute_specs(config_of(seven[2], **change))]
        )


def test_specs_that_share_a_file_do_not_merge(seven):
    with pytest.raises(SpecsError, match=r"2\.root:Events is in both"):
        merge_specs(
            [compute_specs(config_of(*seven[:3])), compute_specs(config_of(seven[3], seven[2]))]
        )


# values that are too large


def test_moments_that_do_not_fit_are_an_error_naming_the_branch():
    for values in ([1e300, -1e300], [1.7e308, -1.7e308, 0.0], [0.0, 1e200]):
        with pytest.raises(OverflowError, match="does not fit"):
            summarize(FLAT, np.array(values))
    same = summarize(FLAT, np.full(3, 1.7e308))  # whose sum would not fit
    assert (same.mean, same.m2) == (1.7e308, 0.0)
    one, other = summarize(FLAT, np.zeros(5)), summarize(FLAT, np.full(5, 1e300))
    with pytest.raises(OverflowError, match="1e\\+300"):
        one.merge(other)
    with pytest.raises(DataError, match="branch x"):
        ClassStatistics(events=5, branches={"x": one}).merge(
            ClassStatistics(events=5, branches={"x": other})
        )


# updating


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1), (3, 2, 1, 0)])
def test_an_update_equals_a_new_pass(seven, order):
    old = compute_specs(config_of(seven[0], seven[1]))
    config = config_of(*(seven[number] for number in order))
    found = update_specs(config, old)
    same_within_bounds(found, compute_specs(config))
    Dataset.prepare(config, found)


def test_an_update_reads_only_the_new_files(seven):
    old = compute_specs(config_of(seven[0], seven[2]))
    reports: list[tuple[int, int]] = []
    update_specs(config_of(*seven[:4]), old, lambda *done: reports.append(done))
    assert reports[-1] == (SIZES[1] + SIZES[3],) * 2
    assert update_specs(config_of(seven[0], seven[2]), old) == old


def test_an_update_keeps_the_fraction(seven, monkeypatch):
    small_units(monkeypatch, 40)
    old = compute_specs(config_of(seven[0], seven[2]), fraction=0.7)
    config = config_of(seven[0], seven[2], seven[5])
    assert update_specs(config, old) == compute_specs(config, fraction=0.7)


def test_what_is_gone_or_changed_needs_a_new_pass(seven):
    old = compute_specs(config_of(*seven[:3]))
    for config, said in (
        (config_of(*seven[1:4]), r"0\.root is gone"),
        (config_of(*seven[:4], split={"seed": 1}), "split.seed is 1"),
        (config_of(*seven[:4], features=["MET"]), "the branches are others"),
    ):
        with pytest.raises(SpecsError, match=rf"cannot be updated: .*{said}.*A new pass is needed"):
            update_specs(config, old)
