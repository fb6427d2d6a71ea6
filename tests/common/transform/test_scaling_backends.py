"""Scalings are the same in NumPy, torch, TensorFlow and an exported graph."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.scalings import Asinh, Log1p, Quantile
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.tf.transform.event_transform import EventTransform as EventLayer
from hepdata_adapters.tf.transform.scaling import encode
from hepdata_adapters.torch.transform.event_transform import EventTransform as EventModule
from hepdata_adapters.torch.transform.scaling import Encoding
from tests.helpers.scaling_functions import CUBE_ROOT, SQUARE_ROOT

FUNCTIONS = [
    None,
    {"kind": "log"},
    Log1p(),
    Asinh(center=20, scale=7),
    Quantile(knots=(-5, 0, 1, 30, 90), levels=(0, 0.1, 0.5, 0.9, 1)),
    Quantile(knots=(1, 2), levels=(0, 1)),
    CUBE_ROOT,
    SQUARE_ROOT,
]
CLIPS = [None, (0.5, None), (None, 60.0), (-2.0, 40.0)]
numbers = (
    # TensorFlow takes numbers below 2.2e-308 for zero
    st.floats(-100, 100, allow_subnormal=False)
    | st.floats(-2, 2, allow_subnormal=False)
    | st.sampled_from([0.0, -0.0, -1.0, 1e-12, 1e5, 1e38, 1e300, -1e300, *[np.nan] * 3, np.inf])
)


@st.composite
def feature_transforms(draw: st.DrawFn, branch: str = "x", kind: str = "flat") -> FeatureTransform:
    missing = draw(st.none() | st.floats(0.5, 50))
    return FeatureTransform(
        branch=branch,
        kind=kind,
        dtype=draw(st.sampled_from(["float64", "float32"])),
        width={"flat": 1, "array": 2, "jagged": 3}[kind],
        function=draw(st.sampled_from(FUNCTIONS)),
        center=draw(st.sampled_from([0.0, 1.5, -20.0])),
        factor=draw(st.sampled_from([1.0, 0.3, -2.0])),
        clip=draw(st.sampled_from(CLIPS)),
        missing=missing,
        indicator=draw(st.booleans()),
        pad=draw(st.sampled_from([0.0, -3.0])),
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(feature_transforms(), min_size=1, max_size=6),
    st.lists(numbers, min_size=6, max_size=18),
)
def test_torch_and_tensorflow_encode_as_numpy(features, values):
    """Any shape before the columns; errors of 1e-6 relative, or of the scale of the result."""
    rows = len(values) // len(features)
    raw = np.array(values[: rows * len(features)]).reshape(rows, 1, len(features))
    expected = [feature.encode(raw[..., i]) for i, feature in enumerate(features)]
    refused = np.stack([part.refused for part in expected], -1)
    filled = np.stack([part.filled for part in expected], -1)
    wanted = np.stack([part.values for part in expected], -1)
    for found in (Encoding(features)(torch.tensor(raw)), encode(tf.constant(raw), features)):
        result, real, bad = (np.asarray(part) for part in found)
        assert (result.dtype, real.dtype, bad.dtype) == (np.float32, np.bool_, np.bool_)
        np.testing.assert_array_equal(bad, refused)
        np.testing.assert_array_equal(real, ~filled)
        np.testing.assert_allclose(result[~bad], wanted[~bad], rtol=1e-6, atol=1e-6)


def event_columns(n: int, features: tuple[FeatureTransform, ...]) -> dict[str, Column]:
    """Events with what is rare: NaN, infinity, huge values, empty and overlong lists."""
    rng = np.random.default_rng(7)
    rare = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 3e38, -3e38, 1e-30])
    columns: dict[str, Column] = {}
    for feature in features:
        dtype = np.dtype(feature.dtype)
        lengths = {"flat": np.ones(n, int), "array": np.full(n, feature.width)}.get(
            feature.kind, rng.poisson(2, n)
        )
        values = np.exp(rng.normal(2, 2, lengths.sum())) * rng.choice([-0.3, 1, 1], lengths.sum())
        if dtype.kind == "f":
            odd = rng.random(len(values)) < 0.05
            values[odd] = rng.choice(rare, odd.sum())
        content = (
            np.clip(values, -1e9, 1e9).astype(dtype)
            if dtype.kind == "i"
            else (values > 3 if dtype.kind == "b" else values.astype(dtype))
        )
        if feature.kind == "jagged":
            columns[feature.branch] = Jagged(content, np.append(0, np.cumsum(lengths)))
        else:
            columns[feature.branch] = content.reshape((n, -1) if feature.kind == "array" else n)
    return columns


def every_kind(missing: bool) -> VectorTransform:
    """Each function, kind and clip, with dtypes, pads and indicators in turns."""
    features = []
    for number, function in enumerate([*FUNCTIONS, *FUNCTIONS]):
        for kind in ("flat", "array", "jagged"):
            i = len(features)
            features.append(
                FeatureTransform(
                    branch=f"b{i}",
                    kind=kind,
                    dtype=("float64", "float32", "int64", "float32", "bool")[i % 5],
                    width={"flat": 1, "array": 2, "jagged": 3}[kind],
                    function=function,
                    center=0.7,
                    factor=0.3,
                    clip=CLIPS[(i + number) % 4],
                    missing=2.0 if missing else None,
                    indicator=missing and i % 3 != 1,
                    overflow="truncate" if missing or i % 2 else "error",
                    pad=-0.5 * (i % 2),
                )
            )
    return VectorTransform(features=tuple(features))


def test_ten_thousand_events_are_the_same_in_torch_and_tensorflow():
    transform = every_kind(missing=True)
    columns = event_columns(10_000, transform.features)
    expected = transform(columns)
    inputs = dense_inputs(columns, Transform.of_vector(transform))
    module = EventModule(Transform.of_vector(transform))(
        {k: torch.from_numpy(v) for k, v in inputs.items()}
    )
    assert module.valid.all()
    layer = EventLayer(Transform.of_vector(transform))(inputs)
    for found in (module.arrays, layer):
        np.testing.assert_allclose(np.asarray(found["x"]), expected.x, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(found["mask"]), expected.mask)
        np.testing.assert_array_equal(np.asarray(found["lengths"]), expected.lengths)


def test_events_that_numpy_refuses_are_marked_by_torch():
    transform = every_kind(missing=False)
    for feature in transform.features[::2]:
        alone = VectorTransform(features=(feature,))
        columns = event_columns(400, alone.features)
        inputs = dense_inputs(columns, Transform.of_vector(alone))
        out = EventModule(Transform.of_vector(alone))(
            {k: torch.from_numpy(v) for k, v in inputs.items()}
        )
        rows = {fault.row for fault in alone.faults(columns)}
        assert set(np.flatnonzero(~out.valid.numpy())) == rows
        if rows:
            reason = str(alone.faults(columns)[0].reason)
            with pytest.raises(InvalidValueError, match=reason):
                alone(columns)
            with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
                EventLayer(Transform.of_vector(alone))(inputs)
        else:
            alone(columns)
            EventLayer(Transform.of_vector(alone))(inputs)


def test_an_exported_graph_is_the_same(tmp_path: Path):
    """torch.export and, by its operations, ONNX, for any number of events and any width."""
    onnxruntime = pytest.importorskip("onnxruntime")
    features = every_kind(missing=True).features
    # each function once, every kind
    transform = VectorTransform(features=tuple(features[3 * i + i % 3] for i in range(8)))
    module = EventModule(Transform.of_vector(transform)).eval()
    whole = Transform.of_vector(transform)

    def tensors(n: int) -> dict[str, torch.Tensor]:
        inputs = dense_inputs(event_columns(n, transform.features), whole)
        return {name: torch.from_numpy(values) for name, values in inputs.items()}

    example = tensors(20)
    rows, shapes = torch.export.Dim("rows"), {}
    for branch in whole.branches:
        shapes[branch.name] = {0: rows}
        if branch.kind == "jagged":
            shapes[branch.name] = {0: rows, 1: torch.export.Dim(f"width_{branch.name}")}
            shapes[f"{branch.name}_length"] = {0: rows}
    program = torch.export.export(
        module, (example,), dynamic_shapes=({k: shapes[k] for k in example},)
    )
    with warnings.catch_warnings(action="ignore"):  # those of torch about itself
        onnx = torch.onnx.export(
            program,
            input_names=list(example),
            output_names=["x", "mask", "lengths", "valid"],
            dynamo=True,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(onnx.model_proto.SerializeToString())
    given_events = tensors(50)
    expected = transform(event_columns(50, transform.features))
    exported = program.module()(given_events)
    np.testing.assert_allclose(exported.arrays["x"], expected.x, rtol=1e-6, atol=1e-6)
    x, mask, *_ = session.run(None, {k: v.numpy() for k, v in given_events.items()})
    np.testing.assert_allclose(x, expected.x, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(mask, expected.mask)


def test_a_cast_module_is_refused():
    encoding = Encoding([FeatureTransform(branch="x", kind="flat", dtype="float32", width=1)])
    with pytest.raises(ConfigError, match="scales in float64 and was cast to"):
        encoding.half()(torch.zeros(1, 1))
