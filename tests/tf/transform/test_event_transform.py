"""The transform as a Keras layer against the numpy reference, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import keras
import numpy as np
import pytest
import tensorflow as tf
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs, input_names
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
from hepdata_adapters.tf.transform.event_transform import EventTransform, input_signature
from tests.helpers.samples import write_events

DTYPES = [
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
]
TINY = float(np.finfo(np.float32).tiny)


def assert_equal(out: Any, transform: VectorTransform, columns: dict[str, Column]) -> None:
    expected = transform(columns)
    # TensorFlow flushes subnormal numbers to zero; all others are equal to the last bit
    np.testing.assert_allclose(np.asarray(out["x"]), expected.x, rtol=0, atol=TINY)
    np.testing.assert_array_equal(np.asarray(out["mask"]), expected.mask)
    np.testing.assert_array_equal(np.asarray(out["lengths"]), expected.lengths)
    assert [np.asarray(out[key]).dtype for key in ("x", "mask", "lengths")] == [
        np.float32,
        np.bool_,
        np.int32,
    ]


def with_garbage(
    inputs: dict[str, Any], transform: VectorTransform, more: int = 2
) -> dict[str, Any]:
    """The same events, padded wider with what must not be looked at."""
    changed = dict(inputs)
    for feature in transform.jagged:
        name = input_names(Transform.of_vector(transform))[feature.branch]
        values, lengths = inputs[name], inputs[name + LENGTH]
        garbage = np.nan if values.dtype.kind == "f" else 1
        wide = np.full((len(values), values.shape[1] + more), garbage, values.dtype)
        places = np.arange(values.shape[1]) < lengths[:, None]
        wide[:, : values.shape[1]][places] = values[places]
        changed[name] = wide
    return changed


# --- any features, any events ----------------------------------------------------------------


def values_of(dtype: str) -> st.SearchStrategy[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return st.booleans()
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return st.integers(int(limits.min), int(limits.max))
    rare = st.sampled_from([np.nan, np.inf, -np.inf, float(np.finfo(kind).max), -0.0])
    return st.floats(-1e4, 1e4, width=16) | rare


@st.composite
def cases(draw: st.DrawFn) -> tuple[VectorTransform, dict[str, Column]]:
    n = draw(st.integers(0, 4))
    features, columns = [], {}
    for number in range(draw(st.integers(1, 4))):
        branch, dtype = f"b{number}", draw(st.sampled_from(DTYPES))
        kind = draw(st.sampled_from(["flat", "array", "jagged"]))
        width = 1 if kind == "flat" else draw(st.integers(1, 3))
        features.append(
            FeatureTransform(
                branch=branch,
                kind=kind,
                dtype=dtype,
                width=width,
                center=draw(st.floats(-1e3, 1e3)),
                factor=draw(st.floats(1e-3, 1)),
                clip=draw(st.sampled_from([None, None, (-50.0, None), (-3.0, 90.0)])),
                missing=draw(st.none() | st.floats(-10, 10)),
                indicator=draw(st.booleans()),
                pad=draw(st.sampled_from([0.0, 0.0, -9.0])),
                overflow=draw(st.sampled_from(["truncate", "truncate", "error"])),
            )
        )
        size = {"flat": 1, "array": width, "jagged": None}[kind]
        rows = draw(
            st.lists(
                st.lists(values_of(dtype), min_size=size or 0, max_size=size or 5),
                min_size=n,
                max_size=n,
            )
        )
        if kind == "jagged":
            columns[branch] = Jagged.from_lists(rows, np.dtype(dtype))
        else:
            shape = (n,) if kind == "flat" else (n, width)
            columns[branch] = np.array(rows, dtype).reshape(shape)
    return VectorTransform(features=tuple(features)), columns


@settings(deadline=None, max_examples=120)
@given(cases())
def test_layer_is_the_reference(case):
    transform, columns = case
    layer = EventTransform(Transform.of_vector(transform))
    inputs = with_garbage(dense_inputs(columns, Transform.of_vector(transform)), transform)
    try:
        transform(columns)
    except InvalidValueError as error:
        reason = str(error).removesuffix(f" [branch {error.branch}]").split(": ")[-1]
        with pytest.raises(tf.errors.InvalidArgumentError) as refused:
            layer(inputs)
        assert reason in str(refused.value)
    else:
        assert_equal(layer(inputs), transform, columns)


# --- one layer, in every place where it must work ---------------------------------------------

TRANSFORM = VectorTransform(
    features=(
        FeatureTransform(branch="Jet.pt", kind="jagged", dtype="float32", width=3, missing=7),
        FeatureTransform(branch="event", kind="flat", dtype="int64", width=1, center=2.0**53),
        FeatureTransform(
            branch="HT", kind="flat", dtype="float64", width=1, center=1e300, factor=1e-300
        ),
        FeatureTransform(branch="ok", kind="flat", dtype="bool", width=1),
        FeatureTransform(branch="hits", kind="array", dtype="uint16", width=2, factor=0.1),
        FeatureTransform(
            branch="eta", kind="jagged", dtype="float16", width=2, overflow="error", factor=0.3
        ),
    )
)
WHOLE = Transform.of_vector(TRANSFORM)


def columns_of(n: int, seed: int = 0) -> dict[str, Column]:
    rng = np.random.default_rng(seed)
    jets = [rng.exponential(40, size).astype(np.float32) for size in rng.poisson(3, n)]
    jets[1] = np.array([np.nan, np.inf, 3, 4, 5], np.float32)
    jets[2] = jets[2][:0]
    return {
        "Jet.pt": Jagged.from_lists(jets, np.float32),
        "event": 2**53 + rng.integers(0, 9, n),
        "HT": rng.uniform(1, 2, n) * 1e300,
        "ok": rng.random(n) < 0.5,
        "hits": rng.integers(0, 2**16, (n, 2)).astype(np.uint16),
        "eta": Jagged.from_lists([rng.normal(size=k) for k in rng.integers(0, 3, n)], np.float16),
    }


def model_of(transform: VectorTransform) -> keras.Model:
    layer = EventTransform(Transform.of_vector(transform), name="events")
    inputs = {
        name: keras.Input(batch_shape=spec.shape.as_list(), dtype=spec.dtype.name, name=name)
        for name, spec in input_signature(Transform.of_vector(transform)).items()
    }
    return keras.Model(inputs, layer(inputs))


def test_keras_file_loads_in_safe_mode_and_gives_the_same(tmp_path: Path) -> None:
    columns = columns_of(20)
    inputs = dense_inputs(columns, WHOLE)
    model = model_of(TRANSFORM)
    assert_equal(model(inputs), TRANSFORM, columns)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.get_layer("events").transform == WHOLE
    assert_equal(loaded(inputs), TRANSFORM, columns)
    dataset = tf.data.Dataset.from_tensor_slices(inputs).batch(8)
    assert_equal(loaded.predict(dataset, verbose=0), TRANSFORM, columns)


def test_a_function_takes_any_number_of_events_and_any_width(tmp_path: Path) -> None:
    layer = EventTransform(WHOLE)
    function = tf.function(lambda **inputs: layer(inputs), autograph=False)
    concrete = function.get_concrete_function(**input_signature(WHOLE))
    module = tf.Module()
    module.layer = layer
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=concrete)
    loaded = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    for n, more in ((3, 0), (50, 4)):
        columns = columns_of(n, seed=n)
        inputs = with_garbage(dense_inputs(columns, WHOLE), TRANSFORM, more)
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        assert_equal(concrete(**tensors), TRANSFORM, columns)
        assert_equal(loaded(**tensors), TRANSFORM, columns)


def test_ragged_tensors_stand_for_padding_and_lengths() -> None:
    columns = columns_of(9)
    inputs = dense_inputs(columns, WHOLE)
    for feature in TRANSFORM.jagged:
        name, column = input_names(WHOLE)[feature.branch], columns[feature.branch]
        assert isinstance(column, Jagged)
        dense = inputs[name]
        inputs[name] = tf.RaggedTensor.from_row_splits(
            column.content.astype(dense.dtype), column.offsets
        )
        del inputs[name + LENGTH]
    assert_equal(EventTransform(WHOLE)(inputs), TRANSFORM, columns)
    flat = inputs | {"ok": tf.ragged.constant([[True]] * 9)}
    with pytest.raises(ConfigError, match="input 'ok' takes shape"):
        EventTransform(WHOLE)(flat)


@pytest.mark.parametrize("width", [0, 1])
def test_no_events_and_no_columns(width: int) -> None:
    shapes = {"Jet_pt": (0, width), "eta": (0, width), "hits": (0, 2)}
    inputs = {
        name: tf.zeros(shapes.get(name, (0,)), spec.dtype)
        for name, spec in input_signature(WHOLE).items()
    }
    out = EventTransform(WHOLE)(inputs)
    assert [tuple(out[key].shape) for key in ("x", "mask", "lengths")] == [(0, 10), (0, 10), (0, 2)]


def test_config_is_json_and_rebuilds_the_layer() -> None:
    layer = EventTransform(WHOLE, name="mine", trainable=False)
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert (again.name, again.trainable, again.transform) == ("mine", False, WHOLE)
    assert config["registered_name"] == "hepdata_adapters>EventTransform"
    assert config["config"]["transform"] == WHOLE.model_dump(mode="json")


def test_mixed_precision_does_not_touch_raw_columns() -> None:
    columns = columns_of(9)
    layer = EventTransform(WHOLE, dtype="mixed_float16")
    assert_equal(layer(dense_inputs(columns, WHOLE)), TRANSFORM, columns)


def test_events_of_a_root_file(tmp_path: Path) -> None:
    path = write_events(tmp_path / "events.root", 500)
    arrays = uproot.open(path)["Events"].arrays()
    columns: dict[str, Column] = {}
    features = []
    for branch in arrays.fields:
        values = arrays[branch]
        jagged = values.ndim == 2
        column = (
            Jagged.from_lists(values.to_list(), ak.to_numpy(ak.flatten(values)).dtype)
            if jagged
            else ak.to_numpy(values)
        )
        columns[branch] = column
        features.append(
            FeatureTransform(
                branch=branch,
                kind="jagged" if jagged else "flat",
                dtype=column.dtype.name,
                width=4 if jagged else 1,
                center=0.3,
                factor=0.017,
            )
        )
    transform = VectorTransform(features=tuple(features))
    assert {feature.dtype for feature in features} >= {"float32", "int64", "float64", "int32"}
    out = EventTransform(Transform.of_vector(transform))(
        dense_inputs(columns, Transform.of_vector(transform))
    )
    np.testing.assert_array_equal(out["x"], transform(columns).x)  # to the last bit
    assert_equal(out, transform, columns)


# --- what it refuses --------------------------------------------------------------------------


def refuse(change: dict[str, Any], error: type[Exception], match: str) -> None:
    """Both eager and inside a graph."""
    layer = EventTransform(WHOLE)
    signature = [input_signature(WHOLE)]
    graph = tf.function(lambda inputs: layer(inputs), input_signature=signature, autograph=False)
    inputs = dense_inputs(columns_of(5), WHOLE) | change
    tensors = {name: tf.convert_to_tensor(values) for name, values in inputs.items()}
    for call in (layer, graph):
        with pytest.raises(error, match=match):
            call(tensors)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"HT": np.array([1e300, 2e300, np.nan, np.inf, 1e300])},
            r"HT holds NaN or infinity \(event 2 of those given\)",
        ),
        (
            {"eta": np.zeros((5, 3), np.float32), "eta_length": np.array([2, 0, 1, 3, 3])},
            r"eta has 3 values, at most 2 fit \(event 3 of those given\)",
        ),
        (
            {"eta": np.zeros((5, 2), np.float32), "eta_length": np.array([2, 0, 4, 0, -1])},
            r"input eta_length holds 4, which is not in 0..2, the width of eta \(event 2 of",
        ),
        (
            {"eta_length": np.array([0, -1, 0, 0, 0])},
            r"input eta_length holds -1",
        ),
        ({"eta_length": np.array([0])}, "input eta_length has another number of events"),
        ({"ok": np.zeros(1, np.bool_)}, "input ok has another number of events"),
    ],
)
def test_values_that_their_policy_forbids(change: dict[str, Any], reason: str) -> None:
    refuse(change, tf.errors.InvalidArgumentError, reason)


def test_a_value_too_large_for_float32_is_an_error_even_where_missing_ones_are_filled() -> None:
    feature = FeatureTransform(branch="x", kind="flat", dtype="float64", width=1, missing=0)
    layer = EventTransform(Transform.of_vector(VectorTransform(features=(feature,))))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"x is too large.*\(event 1 of"):
        layer({"x": np.array([np.inf, 1e300])})


def test_inputs_of_another_name_dtype_or_shape() -> None:
    layer = EventTransform(WHOLE)
    inputs = dense_inputs(columns_of(5), WHOLE)
    renamed = {name.replace("Jet_pt", "Jet_Pt"): values for name, values in inputs.items()}
    with pytest.raises(ConfigError, match="input 'Jet_pt' is missing; did you mean 'Jet_Pt'"):
        layer(renamed)
    with pytest.raises(ConfigError, match="'HT' takes float64, not float32: cast it"):
        layer(inputs | {"HT": np.zeros(5, np.float32)})
    with pytest.raises(ConfigError, match=r"'hits' takes shape \(None, 2\), not \(5, 3\)"):
        layer(inputs | {"hits": np.zeros((5, 3), np.int32)})
    assert_equal(layer(inputs | {"unknown": np.zeros(3)}), TRANSFORM, columns_of(5))


def test_a_dtype_that_tensorflow_lacks_is_refused_at_construction() -> None:
    feature = FeatureTransform(branch="x", kind="flat", dtype="longdouble", width=1)
    with pytest.raises(ConfigError, match="branch 'x' is longdouble, which TensorFlow does not"):
        EventTransform(Transform.of_vector(VectorTransform(features=(feature,))))


def test_branches_that_differ_only_in_case_are_refused_with_a_remedy() -> None:
    """TensorFlow's own words, at the end of an export, named neither."""
    features = (
        FeatureTransform(branch=name, kind="flat", dtype="float32", width=1)
        for name in ("pt", "PT")
    )
    with pytest.raises(ConfigError, match=r"'pt' and 'PT' differ only in case.*exclude: \[PT\]"):
        EventTransform(Transform.of_vector(VectorTransform(features=tuple(features))))
