"""The sketch: how far its quantiles are from the exact ones, however the values were cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.sketch import SKETCH_SIZE, compressed
from hepdata_adapters.common.specs.sums import BranchSums, Events, summarize

FLAT = Branch("x", "flat", "float64")
LEVELS = (0.001, 0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99, 0.999)
DRAW = {
    "normal": lambda random, n: random.normal(size=n),
    "exponential": lambda random, n: random.exponential(size=n),
    "heavy tails": lambda random, n: random.lognormal(sigma=3, size=n),
    "uniform": lambda random, n: random.uniform(size=n),
    "two peaks": lambda random, n: np.append(
        random.normal(size=n // 2), random.normal(50, 0.1, n - n // 2)
    ),
    "whole numbers": lambda random, n: random.integers(0, 1000, n).astype(np.float64),
}


def rank_error(stats, values: np.ndarray) -> float:
    """How far the rank of a quantile is from its level, the worst of `LEVELS`."""
    found = [stats.quantile(q) for q in LEVELS]
    ordered = np.sort(values)
    below, upto = (
        np.searchsorted(ordered, found, side) / len(values) for side in ("left", "right")
    )
    return float(np.max(np.maximum(below - LEVELS, LEVELS - upto)))


@pytest.mark.parametrize("units", [1, 7, 40])
@pytest.mark.parametrize("kind", DRAW)
@pytest.mark.parametrize("shuffled", [True, False])
def test_ranks_are_within_the_documented_bound(kind, units, shuffled):
    """0.2 %, where units hold values of everywhere and where each has its own range."""
    values = DRAW[kind](np.random.default_rng(units), 200_000)
    values = values if shuffled else np.sort(values)
    sums = BranchSums(FLAT)
    for unit in np.array_split(values, units):
        sums.add(unit, Events(np.arange(len(unit))))
    assert rank_error(sums.statistics(), values) < 0.002


@pytest.mark.parametrize("kind", DRAW)
def test_merged_parts_are_within_the_documented_bound(kind):
    values = DRAW[kind](np.random.default_rng(3), 200_000)
    parts = [summarize(FLAT, part) for part in np.array_split(values, 20)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert rank_error(merged, values) < 0.002


centroids = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.sampled_from([1.0, 2.0, 0.25, 1e6])), max_size=500
)


@settings(deadline=None, max_examples=100)
@given(centroids)
def test_centroids_keep_their_weight_order_and_range(sketch):
    sketch = tuple(sketch)
    found = compressed(sketch)
    assert len(found) <= SKETCH_SIZE
    assert sum(weight for _, weight in found) == pytest.approx(sum(w for _, w in sketch), rel=1e-12)
    means = [mean for mean, _ in found]
    assert means == sorted(means)
    if sketch:
        assert min(sketch)[0] <= means[0] <= means[-1] <= max(sketch)[0]
        assert compressed(sketch[::-1]) == found
    if len(sketch) <= SKETCH_SIZE:
        assert found == tuple(sorted(sketch))


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.integers(1, 900), elements=st.sampled_from([0.1, 0.7, 3.3, -5.0])))
def test_few_different_values_stay_themselves_where_there_is_room(values):
    found = summarize(FLAT, values)
    for mean, weight in found.sketch:
        if weight == 1:
            assert mean in values
    if len(values) <= SKETCH_SIZE:
        assert {mean for mean, _ in found.sketch} == set(values.tolist())
