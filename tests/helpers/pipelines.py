"""A transform with everything in it, and raw events that try it: for the tests of all backends."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.common.files.preparation import (
    DerivedColumn,
    ObjectGroup,
    Preparation,
    RawBranch,
)
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs, input_names
from hepdata_adapters.common.inference.raw_events import events_from_columns
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

JETS = {"Jet_pt": "float32", "Jet_eta": "float32", "Jet_phi": "float64", "Jet_id": "uint32"}
LISTS = JETS | {"Mu_pt": "float32", "Mu_tag": "uint64"}


def scaled(branch: str, kind: Any = "flat", width: int = 1, **options: Any) -> FeatureTransform:
    defaults: dict[str, Any] = {"dtype": "float64", "center": 1.0, "factor": 0.25}
    return FeatureTransform(branch=branch, kind=kind, width=width, **defaults | options)


TRANSFORM = Transform(
    preparation=Preparation(
        branches=(
            RawBranch(name="MET", kind="flat", dtype="float32"),
            RawBranch(name="corners", kind="array", dtype="float32", size=3),
            *(RawBranch(name=name, kind="jagged", dtype=dtype) for name, dtype in LISTS.items()),
        ),
        objects=(
            ObjectGroup(
                name="Jet", members=tuple(JETS), selection="Jet_pt > 30 & abs(Jet_eta) < 2.4",
                sort_by="Jet_pt",
            ),
            ObjectGroup(name="Mu", members=("Mu_pt", "Mu_tag"), sort_by="Mu_tag % 3",
                        descending=False),
        ),
        columns=(
            DerivedColumn(name="HT", expression="sum(Jet_pt)"),
            DerivedColumn(name="balance", expression="MET / (HT + 1)"),
            DerivedColumn(name="Jet_px", expression="Jet_pt * cos(Jet_phi)"),
            DerivedColumn(name="third", expression="Jet_eta[2]"),
        ),
    ),
    vector=VectorTransform(
        features=(
            scaled("MET", dtype="float32", function={"kind": "log"}, missing=1.0, clip=(None, 500)),
            scaled("HT", function={"kind": "asinh", "center": 50, "scale": 20}),
            scaled("balance", missing=0.5, indicator=True, clip=(-2, 2)),
            scaled("third", missing=0.0, indicator=True),
            scaled("corners", "array", 3, dtype="float32", missing=0.5),
            scaled("Jet_px", "jagged", 4, pad=-9.0),
            scaled("Mu_pt", "jagged", 3, dtype="float32", overflow="error"),
            scaled("Mu_tag", "jagged", 2, dtype="uint64", factor=1e-9, function={
                "kind": "quantile", "knots": (0, 2, 5), "levels": (0, 0.4, 1)}),
        )
    ),
    inputs={
        "jets": SetTransform(
            length=3, pad=-5.0,
            features=(
                scaled("Jet_pt", "jagged", 3, dtype="float32", function={"kind": "log1p"}),
                scaled("Jet_id", "jagged", 3, dtype="uint32"),
            ),
        ),
        "calo": ImageTransform(
            axes=(
                ImageBins(branch="Jet_eta", edges=(-2.0, -0.5, 0.5, 2.0)),
                ImageBins(branch="Jet_phi", edges=(-3.0, 0.0, 3.0), periodic=True),
            ),
            channels=(None, "Jet_pt"),
        ),
    },
)  # fmt: skip
MASKS = ("mask", "lengths", "jets_mask", "type_mask")


def columns_of(events: list[dict[str, Any]], transform: Transform = TRANSFORM) -> Columns:
    """Raw columns of all events, good or bad."""
    found: Columns = {}
    for branch in transform.branches:
        values = [event[branch.name] for event in events]
        shape = (-1, branch.size) if branch.kind == "array" else (-1,)
        found[branch.name] = (
            Jagged.from_lists(values, np.dtype(branch.dtype))
            if branch.kind == "jagged"
            else np.array(values, branch.dtype).reshape(shape)
        )
    return found


def dense(events: list[dict[str, Any]], transform: Transform = TRANSFORM) -> dict[str, Any]:
    """The inputs of all events, padded by what must not be looked at."""
    inputs = dense_inputs(columns_of(events, transform), transform)
    for branch, name in input_names(transform).items():
        if branch in LISTS:
            values, lengths = inputs[name], inputs[name + LENGTH]
            garbage = np.nan if values.dtype.kind == "f" else 77
            # each branch is padded to a width of its own
            wide = np.full((len(values), values.shape[1] + len(branch) % 3), garbage, values.dtype)
            inside = np.arange(values.shape[1]) < lengths[:, None]
            wide[:, : values.shape[1]][inside] = values[inside]
            inputs[name] = wide
    return inputs


def assert_same(arrays: dict[str, Any], good: list[int], expected: dict[str, Any]) -> None:
    assert list(arrays) == list(expected)
    for name, wanted in expected.items():
        found = np.asarray(arrays[name])
        assert (found.dtype, found.shape[1:]) == (wanted.dtype, wanted.shape[1:])
        if name in MASKS:
            np.testing.assert_array_equal(found[good], wanted)
        else:
            np.testing.assert_allclose(found[good], wanted, rtol=1e-6, atol=1e-6)


def flattened(arrays: dict[str, Any]) -> Any:
    rows = [v.reshape(len(v), math.prod(v.shape[1:])).astype(np.float32) for v in arrays.values()]
    return np.concatenate(rows, 1)


# TensorFlow takes subnormal numbers for 0, and says so in its docstrings
small = st.floats(-50, 300, width=32, allow_subnormal=False)
number = small | small | st.sampled_from([30.0, 0.0, float("nan"), float("inf"), -float("inf")])
angle = st.floats(-4, 4, width=32, allow_subnormal=False) | st.sampled_from(
    [float("nan"), 2.4, -0.5]
)
jet = st.tuples(number, angle, angle, st.integers(0, 2**32 - 1))
# torch computes the key that muons are sorted by in float64, which has no larger integers
muon = st.tuples(small | small | small | number, st.integers(0, 2**53))


@st.composite
def raw_event(draw: st.DrawFn) -> dict[str, Any]:
    jets, muons = draw(st.lists(jet, max_size=6)), draw(st.lists(muon, max_size=4))
    event = {"MET": draw(number), "corners": draw(st.lists(number, min_size=3, max_size=3))}
    event |= {name: [j[i] for j in jets] for i, name in enumerate(JETS)}
    event |= {name: [m[i] for m in muons] for i, name in enumerate(["Mu_pt", "Mu_tag"])}
    if draw(st.integers(0, 9)) == 0:
        event["Jet_eta"] = [*event["Jet_eta"], 0.0]
    return event


EVENTS = st.lists(raw_event(), min_size=1, max_size=8)


def made_events(n: int, seed: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Events of all kinds, and those whose jets disagree in their number."""
    rng = np.random.default_rng(seed)
    columns: Columns = {
        "MET": rng.exponential(60, n).astype(np.float32),
        "corners": rng.normal(size=(n, 3)).astype(np.float32),
    }
    columns["MET"][rng.random(n) < 0.05] = np.nan
    for mean, names in ((3, list(JETS)), (0.7, ["Mu_pt", "Mu_tag"])):
        lengths = rng.poisson(mean, n)
        lengths[rng.random(n) < 0.002] = 40
        offsets = np.cumsum([0, *lengths])
        for name in names:
            content: Any = rng.integers(0, 1000, offsets[-1])
            if LISTS[name].startswith("float"):
                scale = 40 if name.endswith("pt") else 1.5
                content = rng.normal(scale, scale, offsets[-1])
                content[rng.random(len(content)) < 0.004] = rng.choice([np.nan, np.inf, -np.inf])
            columns[name] = Jagged(content.astype(LISTS[name]), offsets)
    events = events_from_columns(columns)
    unequal = rng.choice(n, n // 100, replace=False).tolist()
    for row in unequal:
        events[row]["Jet_id"] = [*events[row]["Jet_id"], 3]
    return events, sorted(unequal)
