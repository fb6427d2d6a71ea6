"""The kernel writes the bytes of the reference, wherever the rows go and whoever writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Column, Jagged, offsets_from_lengths, take_all
from hepdata_adapters.common.core.errors import InvalidValueError
from hepdata_adapters.common.transform.scaling import LARGEST
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.common.transform.vector_rows import VectorWriter

DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64",
)  # fmt: skip
FUNCTIONS = (
    None, None, {"kind": "log"}, {"kind": "log1p"}, {"kind": "asinh", "scale": 2.0},
    {"kind": "quantile", "knots": [-1.0, 0.0, 3.0], "levels": [0.0, 0.4, 1.0]},
)  # fmt: skip
SPECIAL = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e-40, 3.4e38, -1.0, 0.5)


def raw_values(dtype: str, size: int, random: np.random.Generator) -> np.ndarray:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return random.random(size) < 0.5
    if kind in "iu":
        limits = np.iinfo(dtype)
        some = random.integers(limits.min, limits.max, size, np.dtype(dtype), endpoint=True)
        return np.where(random.random(size) < 0.5, some, some % 7).astype(dtype)
    with np.errstate(over="ignore"):
        values = random.normal(scale=3, size=size).astype(dtype)
        values[random.random(size) < 0.3] = random.choice(SPECIAL)
    return values


@st.composite
def features(draw: st.DrawFn, name: str) -> FeatureTransform:
    kind = draw(st.sampled_from(["flat", "array", "jagged"]))
    low = draw(st.none() | st.floats(-5, 0))
    return FeatureTransform(
        branch=name,
        kind=kind,
        dtype=draw(st.sampled_from(DTYPES)),
        width=1 if kind == "flat" else draw(st.integers(1, 6)),
        function=draw(st.sampled_from(FUNCTIONS)),
        center=draw(st.floats(-3, 3)),
        factor=draw(st.floats(-3, 3)),
        clip=draw(st.none() | st.tuples(st.just(low), st.none() | st.floats(0.1, 9))),
        missing=draw(st.none() | st.just(1.0)),
        indicator=draw(st.booleans()),
        overflow=draw(st.sampled_from(["truncate", "truncate", "error"])),
        pad=draw(st.sampled_from([0.0, -1.5])),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[VectorTransform, dict[str, Column], np.random.Generator]:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    chosen = [draw(features(f"b{number}")) for number in range(draw(st.integers(1, 4)))]
    events = draw(st.integers(0, 30))
    shared = offsets_from_lengths(random.integers(0, 8, events))
    columns: dict[str, Column] = {}
    for feature in chosen:
        if feature.kind == "jagged":
            own = offsets_from_lengths(random.integers(0, 4, events))
            offsets = shared if random.random() < 0.6 else own
            content = raw_values(feature.dtype, int(offsets[-1]), random)
            columns[feature.branch] = Jagged(content, offsets)
        else:
            values = raw_values(feature.dtype, events * feature.width, random)
            flat = feature.kind == "flat"
            columns[feature.branch] = values if flat else values.reshape(events, feature.width)
    return VectorTransform(features=tuple(chosen)), columns, random


@given(cases(), st.integers(1, 3))
@settings(deadline=None)
def test_the_same_bytes_as_the_reference(
    case: tuple[VectorTransform, dict[str, Column], np.random.Generator], threads: int
) -> None:
    transform, columns, random = case
    events = len(next(iter(columns.values())))
    rows = random.integers(0, max(events, 1), random.integers(0, 40) if events else 0)
    places = random.permutation(len(rows) + 3)[: len(rows)]
    taken = take_all(columns, rows)
    writer = VectorWriter(transform)
    to = writer.empty(len(rows) + 3)
    good = writer.write(columns, rows, places, to, threads)
    try:
        wanted = transform(taken)
    except InvalidValueError:
        assert not good
        return
    assert good
    assert to.x[places].tobytes() == wanted.x.tobytes()
    assert to.mask[places].tobytes() == wanted.mask.tobytes()
    assert to.lengths[places].tobytes() == wanted.lengths.tobytes()
    assert np.array_equal(to.counts.T[places], wanted.counts)
    others = np.setdiff1d(np.arange(len(rows) + 3), places)
    assert not to.counts[:, others].any()


def test_arrays_that_lie_in_another_way_are_read_as_what_they_are() -> None:
    """The kernel finds them by their place in memory."""
    features = [
        FeatureTransform(branch=name, kind=kind, dtype="float64", width=2 if name == "pt" else 1)
        for name, kind in (("met", "flat"), ("pt", "jagged"))
    ]
    writer = VectorWriter(VectorTransform(features=tuple(features)))
    content = np.arange(12.0)[::2]
    offsets = np.array([0, 2, 2, 6], np.int32)
    columns = {"met": np.arange(9.0)[::3], "pt": Jagged(content, offsets)}
    rows, places = np.array([2, 0, 1], np.int32), np.array([0, 1, 2], np.int32)
    to = writer.empty(3)
    assert writer.write(columns, rows, places, to)
    assert to.x.tolist() == [[6.0, 4.0, 6.0], [0.0, 0.0, 2.0], [3.0, 0.0, 0.0]]
    assert to.lengths.tolist() == [[2], [2], [0]]


@pytest.mark.parametrize(
    ("change", "values", "good"),
    [
        ({}, [1.0, 2.0], True), ({}, [np.nan], False), ({"missing": 0.0}, [np.inf], True),
        ({"factor": 2.0}, [LARGEST / 2], True), ({"factor": 2.0}, [LARGEST / 1.9], False),
        ({"width": 1, "overflow": "error"}, [1.0, 2.0], False),
        ({"width": 2, "overflow": "error"}, [1.0, 2.0], True),
        ({"width": 1}, [1.0, np.nan], False),  # also where it is cut off
        ({"function": {"kind": "log"}}, [-1.0], False),
        ({"function": {"kind": "log"}, "clip": (1.0, None)}, [-1.0], True),
    ],
)  # fmt: skip
def test_what_the_reference_refuses(
    change: dict[str, Any], values: list[float], good: bool
) -> None:
    given = {"branch": "pt", "kind": "jagged", "dtype": "float64", "width": 3} | change
    transform = VectorTransform(features=(FeatureTransform(**given),))
    columns = {"pt": Jagged.from_lists([[0.5], values])}
    writer = VectorWriter(transform)
    assert writer.write(columns, np.array([1]), np.array([0]), writer.empty(1)) == good
    assert writer.write(columns, np.array([0]), np.array([0]), writer.empty(1))
    assert bool(transform.faults(columns)) != good
