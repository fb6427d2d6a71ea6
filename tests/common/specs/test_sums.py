"""Statistics that kernels make, unit by unit, against plain numpy over all values at once."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, from_dtype

from hepdata_adapters.common.core.columns import Jagged, offsets_from_lengths
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.missing import missing_events
from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.specs.sums import BranchSums, Events, summarize

DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64",
)  # fmt: skip
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0]


def numbers(dtype: str, size: st.SearchStrategy[int]) -> st.SearchStrategy[np.ndarray]:
    """Any numbers of a dtype; floats whose squares have room in float64, and the odd ones."""
    kind = np.dtype(dtype)
    if kind.kind != "f":
        return arrays(kind, size, elements=from_dtype(kind))
    most = min(1e150, float(np.finfo(kind).max))
    some = st.floats(-most, most, width=kind.itemsize * 8) if most != 1e150 else (
        st.floats(-1e150, 1e150))  # fmt: skip
    return arrays(kind, size, elements=st.one_of(some, st.sampled_from(ODD)))


def exact_moments(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and m2 without rounding, and the sum of absolute values."""
    known = [Fraction(float(value)) for value in values]
    mean = sum(known, Fraction()) / max(len(known), 1)
    m2 = sum(((value - mean) ** 2 for value in known), Fraction())
    return float(mean), float(m2), float(sum(map(abs, known), Fraction()))


def check(found: BranchStatistics, values: np.ndarray) -> None:
    """What ``values``, all that were added, have to give."""
    finite = values
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        assert found.nan == np.isnan(values).sum()
        assert found.positive_infinity == np.isposinf(values).sum()
        assert found.negative_infinity == np.isneginf(values).sum()
    assert found.count == len(finite)
    if not len(finite):
        assert (found.minimum, found.maximum, found.sketch) == (None, None, ())
        return
    assert (found.minimum, found.maximum) == (finite.min().item(), finite.max().item())
    mean, m2, size = exact_moments(finite.astype(np.float64))
    assert found.mean == pytest.approx(mean, rel=1e-13, abs=1e-15 * size / len(finite))
    assert found.m2 == pytest.approx(m2, rel=1e-11, abs=1e-29 * size * size)
    assert sum(count for _, count in found.sketch) == len(finite)
    means = [mean for mean, _ in found.sketch]
    assert means == sorted(means)
    # as float64, which holds no wide integer exactly
    assert float(found.minimum) <= means[0] <= means[-1] <= float(found.maximum)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_flat_values_of_some_events_unit_by_unit(dtype, data):
    sums, added = BranchSums(Branch("x", "flat", dtype)), []
    for _ in range(data.draw(st.integers(1, 3))):
        values = data.draw(numbers(dtype, st.integers(0, 60)))
        rows = np.flatnonzero(data.draw(arrays(np.bool_, len(values))))
        sums.add(values, Events(rows))
        added.append(values[rows])
        assert missing_events(values, rows) == np.sum(~np.isfinite(values[rows]))
    check(sums.statistics(), np.concatenate(added))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_lists_of_some_events_unit_by_unit(dtype, data):
    sums, added, lengths = BranchSums(Branch("x", "jagged", dtype)), [], []
    for _ in range(data.draw(st.integers(1, 3))):
        sizes = data.draw(arrays(np.int64, st.integers(0, 20), elements=st.integers(0, 6)))
        column = Jagged(
            data.draw(numbers(dtype, st.just(int(sizes.sum())))), offsets_from_lengths(sizes)
        )
        rows = np.flatnonzero(data.draw(arrays(np.bool_, len(sizes))))
        sums.add(column, Events(rows))
        lists = [column.content[column.offsets[row] : column.offsets[row + 1]] for row in rows]
        added += lists
        lengths += sizes[rows].tolist()
        assert missing_events(column, rows) == sum(not np.isfinite(one).all() for one in lists)
    found = sums.statistics()
    check(found, np.concatenate([np.zeros(0, dtype), *added]))
    assert found.lengths is not None
    assert found.lengths.counts == {n: lengths.count(n) for n in sorted(set(lengths))}
    assert list(found.lengths.counts) == sorted(found.lengths.counts)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_arrays_of_some_events(data):
    values = data.draw(numbers("float32", st.just(60))).reshape(20, 3)
    rows = np.flatnonzero(data.draw(arrays(np.bool_, 20)))
    sums = BranchSums(Branch("x", "array", "float32", 3))
    sums.add(values, Events(rows))
    check(sums.statistics(), values[rows].reshape(-1))
    assert missing_events(values, rows) == (~np.isfinite(values[rows])).any(axis=1).sum()


@pytest.mark.parametrize("size", [1, 99, 100, 101, 400, 401, 5000, 70_001])
@pytest.mark.parametrize("shift", [0.0, 1e9, -3e14])
def test_moments_are_those_of_exact_sums_at_any_size_and_offset(size, shift):
    values = np.random.default_rng(size).exponential(size=size) + shift
    found = summarize(Branch("x", "flat", "float64"), values)
    assert found.mean == pytest.approx(math.fsum(values) / size, rel=1e-15)
    _, m2, _ = exact_moments(values[:5000]) if size <= 5000 else (0, None, 0)
    if m2 is not None:
        assert found.m2 == pytest.approx(m2, rel=1e-12)


def test_values_that_cancel_cost_no_more_than_numpy_s_own_sum():
    random = np.random.default_rng(0)
    for _ in range(20):
        values = random.normal(size=3000) * 10.0 ** random.uniform(-8, 8, 3000)
        mean, m2, size = exact_moments(values)
        found = summarize(Branch("x", "flat", "float64"), values)
        assert abs(found.mean - mean) <= max(abs(values.mean() - mean), 2e-16 * size / 3000)
        assert found.m2 == pytest.approx(m2, rel=1e-14)


def test_wide_unsigned_integers_keep_their_digits():
    values = np.array([2**63 + 1, 2**64 - 1, 2**53 + 1], np.uint64)
    found = summarize(Branch("event", "flat", "uint64"), values)
    assert (found.minimum, found.maximum) == (2**53 + 1, 2**64 - 1)


def test_long_lists_are_counted_and_gathered_like_short_ones():
    lengths = np.array([3, 2_300_000, 0, 2_300_000, 3])
    content = np.arange(lengths.sum(), dtype=np.float32)
    column = Jagged(content, offsets_from_lengths(lengths))
    sums = BranchSums(Branch("x", "jagged", "float32"))
    sums.add(column, Events(np.array([0, 1, 2, 3, 4])))
    sums.add(column, Events(np.array([0, 2, 4])))
    found = sums.statistics()
    assert found.lengths.counts == {0: 2, 3: 4, 2_300_000: 2}
    assert (found.count, found.maximum) == (4_600_012, float(content[-1]))


def test_there_is_one_zero():
    for values in ([-0.0, 0.0], [0.0, -0.0], [-0.0] * 500):
        found = summarize(Branch("x", "flat", "float64"), np.array(values))
        assert "-" not in found.model_dump_json()


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "uint8", "float64"])
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_weighted_values_against_numpy(dtype, data):
    size = data.draw(st.integers(0, 40))
    values = data.draw(numbers(dtype, st.just(size)))
    weights = data.draw(
        arrays(np.float64, size, elements=st.sampled_from([0.0, 1e-3, 0.5, 1.0, 250.0]))
    )
    found = summarize(Branch("x", "flat", dtype), values, weights)
    finite = np.isfinite(values)
    assert found.count == finite.sum()
    assert found.nan == np.isnan(values).sum()
    assert found.positive_infinity == np.sum(values == np.inf)
    assert found.negative_infinity == np.sum(values == -np.inf)
    assert found.sum_of_weights == pytest.approx(weights[finite].sum(), rel=1e-12)
    total = sum(weight for _, weight in found.sketch)
    assert total == pytest.approx(weights[finite].sum(), rel=1e-12)
    if weights[finite].any():
        mean = np.average(values[finite].astype(np.float64), weights=weights[finite])
        scale = np.abs(values[finite].astype(np.float64)).max()
        assert found.mean == pytest.approx(mean, rel=1e-9, abs=1e-13 * scale)
