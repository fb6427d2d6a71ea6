"""Ragged values: nothing padded or cut, back again, and in the layouts of the frameworks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.transform.ragged import RaggedTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.tf.data.ragged import to_ragged
from hepdata_adapters.torch.data.ragged import cu_seqlens, to_nested


def feature(branch: str, dtype: str, **options: Any) -> FeatureTransform:
    return FeatureTransform(branch=branch, kind="jagged", dtype=dtype, width=1, **options)


JETS = RaggedTransform(
    features=(
        feature("pt", "float32", center=30.0, factor=0.1, missing=30.0, clip=(None, 900.0)),
        feature("tag", "bool"),
    )
)
VALUES = st.one_of(st.floats(0, 1000, width=32), st.sampled_from([math.nan, math.inf]))
EVENTS = st.lists(st.lists(st.tuples(VALUES, st.booleans()), max_size=5), max_size=8)
Events = list[list[tuple[float, bool]]]


def columns_of(events: Events) -> Columns:
    return {
        "pt": Jagged.from_lists([[pt for pt, _ in event] for event in events], np.float32),
        "tag": Jagged.from_lists([[tag for _, tag in event] for event in events], np.bool_),
    }


def values_of(columns: Columns, transform: RaggedTransform = JETS) -> Jagged:
    values = transform(columns).arrays[""]
    assert isinstance(values, Jagged)
    return values


@settings(max_examples=100, deadline=None)
@given(events=EVENTS)
def test_all_objects_are_kept(events: Events) -> None:
    columns = columns_of(events)
    out = JETS(columns)
    values = values_of(columns)
    assert values.lengths.tolist() == [len(event) for event in events]
    assert (values.content.shape[1:], values.dtype) == ((2,), np.float32)
    raw = columns["pt"]
    assert isinstance(raw, Jagged)
    finite = np.isfinite(raw.content)
    expected = (np.where(finite, raw.content.clip(max=900), 30).astype(np.float64) - 30) * 0.1
    np.testing.assert_allclose(values.content[:, 0], expected, rtol=1e-6, atol=1e-9)
    kinds = ("values filled (NaN or infinity)", "values clipped")
    assert JETS.counted == tuple((kind, "pt") for kind in kinds)
    pts = raw.to_lists()
    assert out.counts.tolist() == [
        [sum(not math.isfinite(v) for v in event), sum(900 < v < math.inf for v in event)]
        for event in pts
    ]


@settings(max_examples=100, deadline=None)
@given(events=EVENTS)
def test_inverse_gives_the_columns_back(events: Events) -> None:
    columns = columns_of([[(pt, tag) for pt, tag in event if pt <= 900] for event in events])
    back = JETS.inverse(values_of(columns))
    for name, column in columns.items():
        found = back[name]
        assert isinstance(found, Jagged)
        assert isinstance(column, Jagged)
        np.testing.assert_array_equal(found.offsets, column.offsets)
        np.testing.assert_allclose(found.content, column.content, rtol=1e-6, atol=1e-5)


def test_integers_stay_exact() -> None:
    transform = RaggedTransform(features=(feature("id", "int64"),), dtype="int64")
    ids = Jagged.from_lists([[2**62 + 1], [], [-3, 5]], np.int64)
    values = values_of({"id": ids}, transform)
    assert values.content.tolist() == [[2**62 + 1], [-3], [5]]
    assert transform.inverse(values)["id"].to_lists() == ids.to_lists()  # type: ignore[union-attr]


def test_faults_say_what_is_wrong_where() -> None:
    strict = RaggedTransform(features=(feature("pt", "float32"), feature("tag", "bool")))
    columns = columns_of([[], [(math.nan, True)]])
    assert [tuple(fault)[:3] for fault in strict.faults(columns)] == [
        (1, "pt", "pt holds NaN or infinity")
    ]
    with pytest.raises(InvalidValueError, match=r"pt holds NaN or infinity .event 1 "):
        strict(columns)
    columns["tag"] = Jagged.from_lists([[True], [True]])
    with pytest.raises(InvalidValueError, match=r"tag has 1 values where pt has 0 .event 0 "):
        strict(columns)


@settings(max_examples=30, deadline=None)
@given(events=EVENTS.filter(bool))
def test_layouts_of_the_frameworks_hold_the_events(events: Events) -> None:
    values = values_of(columns_of(events))
    expected = values.to_lists()
    content, offsets = torch.from_numpy(values.content), torch.from_numpy(values.offsets)
    nested = to_nested(content, offsets)
    assert nested.is_nested
    assert nested.layout == torch.jagged
    assert [event.tolist() for event in nested.unbind()] == expected
    packing = cu_seqlens(offsets)
    assert packing.cu_seqlens.dtype == torch.int32
    assert packing.cu_seqlens.tolist() == values.offsets.tolist()
    assert packing.max_seqlen == max(map(len, events))
    ragged = to_ragged(tf.constant(values.content), tf.constant(values.offsets))
    assert ragged.shape.as_list() == [len(events), None, 2]
    assert ragged.to_list() == expected


def test_packing_of_no_events_and_of_too_many_objects() -> None:
    assert cu_seqlens(torch.tensor([0])).max_seqlen == 0
    with pytest.raises(ConfigError, match="smaller batch"):
        cu_seqlens(torch.tensor([0, 2**31]))
