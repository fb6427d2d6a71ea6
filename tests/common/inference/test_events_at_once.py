"""Events turned into columns at once: the same columns and faults as one value after the other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.inference import raw_events
from hepdata_adapters.common.inference.events_at_once import columns_at_once
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform

DTYPES = ("float32", "float64", "int8", "uint8", "int32", "uint64", "int64", "bool")
TRANSFORM = Transform.of_vector(
    VectorTransform(
        features=tuple(
            FeatureTransform(
                branch=f"{kind}_{dtype}", kind=kind, dtype=dtype, width=2 if kind != "flat" else 1,
                missing=0.0,
            )
            for dtype in DTYPES
            for kind in ("flat", "array", "jagged")
        )
    )
)  # fmt: skip
GOOD = {
    "f": st.floats() | st.none() | st.integers(-99, 99),
    "i": st.integers(-128, 127),
    "u": st.integers(0, 255),
    "b": st.booleans() | st.sampled_from([0, 1, 0.0, 1.0]),
}
ODD = st.sampled_from([
    None, True, False, "x", [], {}, [1.0], 10**400, -(10**400), 2**64, 2**63, -1, 300, 1.0, 1.5,
    3.5e38, math.nan, math.inf, np.float64(2.0), np.int64(3),
])  # fmt: skip


def values_of(branch: Any) -> st.SearchStrategy[Any]:
    kind = np.dtype(branch.dtype).kind
    number = GOOD[kind]
    if branch.dtype == "float32":
        number = st.floats(width=32) | st.none()
    if branch.kind == "flat":
        return number
    size = branch.size if branch.kind == "array" else None
    return st.lists(number, min_size=size or 0, max_size=size or 4)


EVENT = st.fixed_dictionaries({branch.name: values_of(branch) for branch in TRANSFORM.branches})


def same(one: Column, other: Column) -> bool:
    if isinstance(one, Jagged) or isinstance(other, Jagged):
        assert isinstance(one, Jagged)
        assert isinstance(other, Jagged)
        return same(one.content, other.content) and same(one.offsets, other.offsets)
    found = (one.dtype, one.shape, one.tobytes())
    return found == (other.dtype, other.shape, other.tobytes())


@settings(max_examples=60)
@given(
    st.lists(EVENT, max_size=4),
    st.none() | st.tuples(st.integers(0, 3), st.sampled_from(TRANSFORM.branches), ODD),
    st.booleans(),
)
def test_columns_and_faults_are_those_of_each_value_by_itself(events, change, inside):
    if change and events:
        row, branch, odd = change
        event = events[row % len(events)]
        event[branch.name] = [odd] if inside else odd
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw_events, "columns_at_once", lambda *_: None)
        expected, faults = raw_events.columns_from_events(events, TRANSFORM)
    found, found_faults = raw_events.columns_from_events(events, TRANSFORM)
    assert found_faults == faults
    assert list(found) == list(expected)
    assert all(same(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("bad", [1, None, "x", [], {"flat_float32": 1.0}])
def test_what_is_no_whole_event_is_left_to_those_who_say_why(bad):
    assert columns_at_once([bad], TRANSFORM) is None


@given(st.lists(EVENT, min_size=1, max_size=3))
def test_good_events_take_the_short_way(events):
    assert columns_at_once(events, TRANSFORM) is not None
