"""Sets of objects: against a loop over events, back again, and in every backend."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import torch
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hepdata_adapters.common.core.columns import Columns, Jagged, take_all
from hepdata_adapters.common.core.errors import BranchError, ConfigError, InvalidValueError
from hepdata_adapters.common.transform.scalings import Log
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.tf.transform.expressions import Padded as TfPadded
from hepdata_adapters.tf.transform.sets import padded_set
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.sets import SetModule
from tests.conftest import EXAMPLES
from tests.helpers.objects import good_rows, in_tf, in_torch, object_columns, padded

LENGTH = 3
TF_DTYPES = {"pt": tf.float32, "eta": tf.float64, "id": tf.int64, "tag": tf.bool}


def feature(branch: str, dtype: str, **options: Any) -> FeatureTransform:
    return FeatureTransform(branch=branch, kind="jagged", dtype=dtype, width=LENGTH, **options)


SCALED = (
    feature("pt", "float32", function=Log(), center=3.0, factor=0.7, missing=1.0),
    feature("eta", "float64", clip=(-2.0, None), missing=0.5, factor=2.0),
    feature("id", "int64", center=0.1, factor=1 / 3),
    feature("tag", "bool"),
)
RAW = (feature("eta", "float64", missing=0.5), feature("tag", "bool"))
SETS = {
    "scaled": SetTransform(features=SCALED, length=LENGTH, pad=-5.0),
    "strict": SetTransform(
        features=(feature("eta", "float64", factor=2.0), SCALED[3]),
        length=LENGTH,
        overflow="error",
    ),
    "float64": SetTransform(features=RAW, length=LENGTH, dtype="float64"),
    "int64": SetTransform(
        features=(feature("id", "int64"), SCALED[3]), length=LENGTH, dtype="int64", pad=-1
    ),
}
EVENT = st.lists(
    st.tuples(
        st.one_of(
            st.floats(0.0625, 1e6, width=32), st.sampled_from([math.nan, math.inf, 0.0, -1.0])
        ),
        st.one_of(
            st.floats(-5, 5, allow_subnormal=False), st.floats(-5, 5, allow_subnormal=False),
            st.sampled_from([math.nan, math.inf, -math.inf, 1e300, -2.0]),
        ),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
    ),
    max_size=5,
)  # fmt: skip
EVENTS = st.lists(EVENT, max_size=8)
Event = list[tuple[float, float, int, bool]]


DTYPES = {"pt": np.float32, "eta": np.float64, "id": np.int64, "tag": np.bool_}


def columns_of(events: list[Event]) -> Columns:
    return object_columns(events, DTYPES)


def good_columns(events: list[Event], transform: SetTransform) -> Columns:
    columns = columns_of(events)
    return take_all(columns, good_rows(columns, transform))


# --- numpy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_set_holds_the_first_objects_of_each_event(name: str, events: list[Event]) -> None:
    transform = SETS[name]
    columns = good_columns(events, transform)
    out = transform(columns)
    x, mask = out.arrays[""], out.arrays["_mask"]
    n = len(columns["pt"])
    assert isinstance(x, np.ndarray)
    assert isinstance(mask, np.ndarray)
    assert (x.shape, x.dtype) == ((n, LENGTH, len(transform.features)), transform.dtype)
    assert (mask.shape, mask.dtype) == ((n, LENGTH), bool)
    rows = {branch: columns[branch].to_lists() for branch in transform.branches}  # type: ignore[union-attr]
    for row in range(n):
        lengths = len(rows[transform.branches[0]][row])
        assert mask[row].tolist() == [i < lengths for i in range(LENGTH)]
        assert (x[row, lengths:] == transform.pad).all()
        for number, made in enumerate(transform.features):
            raw = np.array(rows[made.branch][row], made.dtype)[:LENGTH]
            if transform.dtype == "float32":
                expected: Any = made.encode(raw).values
            else:
                expected = np.where(np.isfinite(raw), raw, made.missing or raw)
            np.testing.assert_array_equal(x[row, : len(raw), number], expected)
    counts = dict(zip(transform.counted, out.counts.T, strict=True))
    beyond = counts.get(("objects beyond the set", transform.branches[0]))
    if beyond is None:
        assert transform.overflow == "error"
    else:
        assert beyond.tolist() == [max(0, len(e) - LENGTH) for e in rows[transform.branches[0]]]
    filled = counts.get(("values filled (NaN or infinity)", "eta"))
    if filled is not None:
        assert filled.tolist() == [int((~np.isfinite(e)).sum()) for e in rows["eta"]]
    clipped = counts.get(("values clipped", "eta"))
    if clipped is not None:
        assert clipped.tolist() == [sum(-math.inf < v < -2 for v in e) for e in rows["eta"]]


def test_lines_are_those_that_can_occur() -> None:
    filled = "values filled (NaN or infinity)"
    assert SETS["scaled"].counted == (
        ("objects beyond the set", "pt"),
        (filled, "pt"),
        (filled, "eta"),
        ("values clipped", "eta"),
    )
    assert SETS["strict"].counted == ()
    assert SETS["strict"](columns_of([[], []])).counts.shape == (2, 0)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_inverse_gives_the_objects_back(events: list[Event]) -> None:
    transform = SetTransform(
        features=(
            feature("pt", "float32", function=Log(), center=3.0, factor=0.7),
            feature("eta", "float64", center=1.0, factor=0.2),
            feature("tag", "bool"),
        ),
        length=LENGTH,
    )
    columns = good_columns(events, transform)
    out = transform(columns)
    back = transform.inverse(out.arrays[""], out.arrays["_mask"])  # type: ignore[arg-type]
    for branch in transform.branches:
        column, found = columns[branch], back[branch]
        assert isinstance(column, Jagged)
        assert isinstance(found, Jagged)
        expected = [event[:LENGTH] for event in column.to_lists()]
        assert found.lengths.tolist() == [len(event) for event in expected]
        flat = [value for event in expected for value in event]
        np.testing.assert_allclose(found.content, flat, rtol=2e-6, atol=1e-6)


@given(events=EVENTS)
@settings(max_examples=60, deadline=None)
def test_integers_come_back_exactly(events: list[Event]) -> None:
    columns = columns_of([event[:LENGTH] for event in events])
    out = SETS["int64"](columns)
    back = SETS["int64"].inverse(out.arrays[""], out.arrays["_mask"])["id"]  # type: ignore[arg-type]
    assert isinstance(back, Jagged)
    assert back.dtype == np.int64
    assert back.to_lists() == columns["id"].to_lists()  # type: ignore[union-attr]


def test_faults_say_what_is_wrong_where() -> None:
    transform = SETS["strict"]
    columns = columns_of([
        [(1.0, 1.0, 0, True)] * 3,
        [(1.0, 1.0, 0, True)] * 4,
        [(1.0, math.nan, 0, True), (1.0, 1e300, 0, True)],
    ])  # fmt: skip
    assert [tuple(fault)[:3] for fault in transform.faults(columns)] == [
        (2, "eta", "eta holds NaN or infinity"),
        (2, "eta", "eta is too large for float32"),
        (1, "eta", "eta has 4 objects, at most 3 fit"),
    ]
    with pytest.raises(InvalidValueError, match=r"holds NaN .*event 2 .*branch eta"):
        transform(columns)
    with pytest.raises(InvalidValueError, match=r"4 objects, at most 3 fit .event 1 "):
        transform(take_all(columns, np.array([0, 1])))


def test_members_of_different_lengths_are_named() -> None:
    columns = columns_of([[], [(1.0, 1.0, 0, True)]])
    columns["tag"] = Jagged.from_lists([[], [True, True]])
    with pytest.raises(InvalidValueError, match=r"tag has 2 values where eta has 1 .event 1"):
        SETS["strict"](columns)
    columns["tag"] = np.zeros(2, np.bool_)
    with pytest.raises(BranchError, match="tag has no list"):
        SETS["strict"](columns)


def test_an_archive_gives_the_same_object() -> None:
    for transform in SETS.values():
        assert SetTransform.model_validate_json(transform.model_dump_json()) == transform


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": (feature("pt", "float32", factor=2.0),), "dtype": "float64"}, "raw values"),
        ({"features": (feature("pt", "float32", clip=(0, 1)),), "dtype": "float64"}, "raw values"),
        ({"features": (feature("pt", "float32"),), "dtype": "int64"}, "pt.*is float32"),
        ({"features": (feature("id", "uint64"),), "dtype": "int64"}, "id.*is uint64"),
        ({"features": (feature("id", "int64"),), "dtype": "float64"}, "id.*is int64"),
    ],
)
def test_values_that_would_be_rounded_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SetTransform(length=LENGTH, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": (RAW[0], RAW[0])}, "stands twice"),
        ({"features": RAW, "length": 2}, "its width is not the length"),
        ({"features": (feature("a", "int8"),), "dtype": "int64", "pad": 0.5}, "no int64"),
        ({"features": (feature("a", "int8", indicator=True),)}, "no indicators"),
    ],
)
def test_impossible_sets_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SetTransform(**{"length": LENGTH, **options})


def test_jets_of_ttH() -> None:
    with uproot.open(EXAMPLES / "tth_0.root") as file:
        arrays = file["Events"].arrays(["Jet_pt", "Jet_isBTagged"], entry_stop=200)
    columns: Columns = {
        "pt": Jagged.from_lists(arrays["Jet_pt"].to_list(), np.float32),
        "tag": Jagged.from_lists(arrays["Jet_isBTagged"].to_list(), np.bool_),
    }
    transform = SetTransform(
        features=(feature("pt", "float32"), feature("tag", "bool")), length=LENGTH
    )
    x = transform(columns).arrays[""]
    for row, (pt, tag) in enumerate(
        zip(arrays["Jet_pt"].to_list(), arrays["Jet_isBTagged"].to_list(), strict=True)
    ):
        expected = np.zeros((LENGTH, 2), np.float32)
        expected[: len(pt), 0], expected[: len(tag), 1] = pt[:LENGTH], tag[:LENGTH]
        np.testing.assert_array_equal(x[row], expected)  # type: ignore[index]


# --- other backends --------------------------------------------------------------------------


def same(found: Mapping[str, Any], transform: SetTransform, columns: Columns) -> None:
    expected = transform(columns).arrays
    assert set(found) == set(expected)
    assert found[""].dtype == expected[""].dtype
    rtol = 1e-6 if transform.dtype == "float32" else 0
    np.testing.assert_allclose(found[""], expected[""], rtol=rtol, atol=rtol)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found["_mask"], expected["_mask"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=60, deadline=None)
@given(events=EVENTS)
def test_torch_agrees_with_numpy(name: str, events: list[Event]) -> None:
    transform, columns = SETS[name], columns_of(events)
    good = good_rows(columns, transform)
    arrays, valid = SetModule(transform)(in_torch(columns))
    assert np.flatnonzero(valid.numpy()).tolist() == good.tolist()
    kept = {suffix: values.numpy()[good] for suffix, values in arrays.items()}
    same(kept, transform, take_all(columns, good))


@pytest.mark.parametrize("name", SETS)
def test_tensorflow_agrees_with_numpy(name: str) -> None:
    transform = SETS[name]
    signature = {
        branch: TfPadded(tf.TensorSpec([None, None], dtype), tf.TensorSpec([None], tf.int64))
        for branch, dtype in TF_DTYPES.items()
    }
    graph = tf.function(lambda given: padded_set(given, transform), input_signature=[signature])

    @settings(max_examples=40, deadline=None)
    @given(events=EVENTS)
    def check(events: list[Event]) -> None:
        columns = columns_of(events)
        good = good_rows(columns, transform)
        if len(good) < len(events):
            with pytest.raises(tf.errors.InvalidArgumentError, match="of those given"):
                graph(in_tf(columns))
        columns = take_all(columns, good)
        found = graph(in_tf(columns))
        same({suffix: values.numpy() for suffix, values in found.items()}, transform, columns)

    check()


def test_branches_that_do_not_fit_together_are_not_valid() -> None:
    lengths = torch.tensor([1, 2, -1, 4])
    pt = {
        "eta": Padded(torch.ones(4, 3).double(), lengths),
        "tag": Padded(torch.ones(4, 3).bool(), torch.tensor([1, 1, -1, 4])),
    }
    _, valid = SetModule(SETS["strict"])(pt)
    assert valid.tolist() == [True, False, False, False]
    for rows, message in (([0, 1], "tag has 1 values where eta has 2"), ([3], "the length 4")):
        given_columns = {k: TfPadded(v.values[rows], v.lengths[rows]) for k, v in pt.items()}
        converted = {k: TfPadded(*map(tf.constant, v)) for k, v in given_columns.items()}
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            padded_set(converted, SETS["strict"])


class Inputs(torch.nn.Module):
    """Plain tensors in, as a graph has them."""

    def __init__(self, transform: SetTransform) -> None:
        super().__init__()
        self.module = SetModule(transform)
        self.names = transform.branches

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        columns = {k: Padded(inputs[k], inputs[f"{k}_length"]) for k in self.names}
        arrays, valid = self.module(columns)
        return arrays[""], arrays["_mask"], valid


def plain(columns: Columns, names: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for name, (values, lengths) in padded({name: columns[name] for name in names}).items():
        found |= {name: values, f"{name}_length": lengths}
    return found


SOME: list[Event] = [
    [(5.0, 1.0, 2, True), (math.nan, -4.0, 2**62, False)],
    [],
    [(1.0, math.inf, 7, False)] * 5,
]


@pytest.mark.parametrize("name", ["scaled", "int64"])
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_onnx_agrees_with_numpy(name: str) -> None:
    transform = SETS[name]
    example = {
        k: torch.from_numpy(v) for k, v in plain(columns_of(SOME), transform.branches).items()
    }
    events = torch.export.Dim("events", min=1)
    shapes = {
        k: {0: events} | ({1: torch.export.Dim(f"{k}_m", min=0)} if v.ndim > 1 else {})
        for k, v in example.items()
    }
    program = torch.export.export(Inputs(transform), (example,), dynamic_shapes=(shapes,))
    graph = torch.onnx.export(program, dynamo=True, verbose=False)
    assert graph is not None
    file = io.BytesIO()
    graph.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    for events_given in ([SOME[0]], [[]], SOME * 4, [[], []]):
        columns = columns_of(events_given)
        inputs = plain(columns, transform.branches)
        x, mask, valid = session.run(
            None,
            {node.name: inputs[node.name.removeprefix("inputs_")] for node in session.get_inputs()},
        )
        assert valid.all()
        same({"": x, "_mask": mask}, transform, columns)
        tensors = program.module()({k: torch.from_numpy(v) for k, v in inputs.items()})
        same({"": tensors[0].numpy(), "_mask": tensors[1].numpy()}, transform, columns)
