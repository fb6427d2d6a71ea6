"""The transform against an independent computation with awkward, and its scaling."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hepdata_adapters.common.columns import Jagged
from hepdata_adapters.common.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.events import columns_from_events, events_from_columns
from hepdata_adapters.common.features import ResolvedFeature
from hepdata_adapters.common.schema import Branch
from hepdata_adapters.common.specs.statistics import summarize
from hepdata_adapters.common.transform.build import feature_transform
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform

number = st.floats(-1e3, 1e3, width=32) | st.sampled_from([float("nan"), float("inf"), 0.0])
events = st.lists(
    st.fixed_dictionaries(
        {
            "met": number,
            "corners": st.lists(number, min_size=3, max_size=3),
            "pt": st.lists(number, max_size=7),
            "id": st.lists(st.integers(-5, 5), max_size=7),
            "ok": st.booleans(),
        }
    ),
    min_size=1,
    max_size=12,
)
TRANSFORM = VectorTransform(
    features=(
        FeatureTransform(
            branch="met", kind="flat", dtype="float32", width=1, center=3, factor=0.25, missing=-1
        ),
        FeatureTransform(branch="corners", kind="array", dtype="float64", width=3, missing=0.5),
        FeatureTransform(
            branch="pt", kind="jagged", dtype="float32", width=4, center=-1, factor=2, missing=7
        ),
        FeatureTransform(branch="id", kind="jagged", dtype="int32", width=2, factor=0.5),
        FeatureTransform(branch="ok", kind="flat", dtype="bool", width=1),
    )
)


def reference(found: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """x and mask with awkward, a feature at a time."""
    columns, masks = [], []
    for feature in TRANSFORM.features:
        values = ak.Array([event[feature.branch] for event in found])
        if feature.kind == "flat":
            values = values[:, np.newaxis]
        if feature.kind == "jagged":
            values = ak.values_astype(values, np.float64)
        dense = ak.to_numpy(
            ak.fill_none(ak.pad_none(values, feature.width, clip=True), 1e30)
        ).astype(np.float64)
        padded = dense == 1e30
        bad = ~np.isfinite(dense)
        dense[bad] = feature.missing if feature.missing is not None else 0.0
        scaled = ((dense - feature.center) * feature.factor).astype(np.float32)
        columns.append(np.where(padded, np.float32(0), scaled))
        masks.append(~(padded | bad))
    return np.hstack(columns), np.hstack(masks)


@settings(deadline=None, max_examples=200)
@given(events)
def test_transform_agrees_with_awkward(found):
    columns, faults = columns_from_events(found, TRANSFORM)
    assert not faults
    out = TRANSFORM(columns)
    x, mask = reference(found)
    np.testing.assert_array_equal(out.x, x)
    np.testing.assert_array_equal(out.mask, mask)
    assert out.lengths.tolist() == [[min(len(e["pt"]), 4), min(len(e["id"]), 2)] for e in found]
    assert out.dropped.tolist() == [
        [max(len(e["pt"]) - 4, 0), max(len(e["id"]) - 2, 0)] for e in found
    ]
    assert out.x.dtype == np.float32
    assert len(TRANSFORM.feature_names) == out.x.shape[1] == TRANSFORM.num_features


@settings(deadline=None, max_examples=50)
@given(events)
def test_events_survive_the_way_to_columns_and_back(found):
    columns, _ = columns_from_events(found, TRANSFORM)
    again, faults = columns_from_events(events_from_columns(columns), TRANSFORM)
    assert not faults
    np.testing.assert_array_equal(TRANSFORM(again).x, TRANSFORM(columns).x)


def test_no_events_give_empty_arrays():
    columns, _ = columns_from_events([], TRANSFORM)
    assert TRANSFORM(columns).x.shape == (0, TRANSFORM.num_features)


def test_a_real_value_equal_to_the_pad_value_is_told_from_padding():
    """In MLaaS4HEP a padded zero looked like the real minimum."""
    transform = VectorTransform(
        features=(FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2),)
    )
    out = transform({"pt": Jagged.from_lists([[0.0]], np.float32)})
    assert out.x.tolist() == [[0.0, 0.0]]
    assert out.mask.tolist() == [[True, False]]


def test_nan_is_an_error_unless_a_policy_fills_it():
    feature = FeatureTransform(branch="x", kind="flat", dtype="float32", width=1)
    columns = {"x": np.array([1.0, np.nan], np.float32)}
    with pytest.raises(InvalidValueError, match=r"x holds NaN or infinity \(event 1"):
        VectorTransform(features=(feature,))(columns)
    filled = feature.model_copy(update={"missing": 2.0})
    out = VectorTransform(features=(filled,))(columns)
    assert out.x.tolist() == [[1.0], [2.0]]
    assert out.mask.tolist() == [[True], [False]]
    assert out.filled.tolist() == [[0], [1]]


def test_a_value_too_large_for_float32_is_an_error_not_an_infinity():
    feature = FeatureTransform(branch="x", kind="flat", dtype="float64", width=1, missing=0)
    transform = VectorTransform(features=(feature,))
    with pytest.raises(InvalidValueError, match=r"x is too large for float32 \(event 1"):
        transform({"x": np.array([1.0, 1e300])})
    fitting = feature.model_copy(update={"center": 1e300, "factor": 1e-300})
    assert VectorTransform(features=(fitting,))({"x": np.array([2e300])}).x.tolist() == [[1.0]]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint64"])
def test_a_factor_can_make_any_value_too_large_for_float32(dtype):
    """Only float64 branches were looked at; a float32 one gave an infinity without a word."""
    feature = FeatureTransform(branch="x", kind="flat", dtype=dtype, width=1, factor=1e30)
    transform = VectorTransform(features=(feature,))
    assert np.isfinite(transform({"x": np.array([1], dtype)}).x).all()
    with pytest.raises(InvalidValueError, match="x is too large for float32"):
        transform({"x": np.array([10**9], dtype)})


def test_a_fill_value_too_large_for_float32_is_refused():
    with pytest.raises(ValidationError, match="x: the fill value 1e\\+300 is too large"):
        FeatureTransform(branch="x", kind="flat", dtype="float32", width=1, missing=1e300)


def test_overlong_events_are_an_error_on_request():
    feature = FeatureTransform(
        branch="pt", kind="jagged", dtype="float32", width=1, overflow="error"
    )
    with pytest.raises(InvalidValueError, match="pt has 2 values, at most 1 fit"):
        VectorTransform(features=(feature,))({"pt": Jagged.from_lists([[1.0, 2.0]])})


def scaled(scaling, values, **options):
    branch = Branch("x", "flat", "float64")
    feature = ResolvedFeature(branch, scaling, 0.99, options.get("missing", "error"), "truncate")
    transform = feature_transform(feature, summarize(branch, values))
    return VectorTransform(features=(transform,))({"x": values}).x[:, 0]


VALUES = np.random.default_rng(0).normal(5, 3, 20_000)


def test_minmax_maps_the_training_range_to_zero_and_one():
    out = scaled("minmax", VALUES)
    assert (out.min(), out.max()) == (0.0, 1.0)


def test_standard_has_mean_zero_and_deviation_one():
    out = scaled("standard", VALUES)
    assert out.mean() == pytest.approx(0, abs=1e-5)
    assert out.std() == pytest.approx(1, abs=1e-5)


def test_robust_has_median_zero_and_half_the_16_84_distance_one():
    out = scaled("robust", VALUES)
    low, middle, high = np.quantile(out, [0.16, 0.5, 0.84])
    assert middle == pytest.approx(0, abs=0.01)
    assert (high - low) / 2 == pytest.approx(1, abs=0.01)


def test_none_leaves_values_alone():
    np.testing.assert_array_equal(scaled("none", VALUES), VALUES.astype(np.float32))


@pytest.mark.parametrize("scaling", ["minmax", "standard", "robust", "none"])
def test_a_constant_column_stays_finite(scaling):
    out = scaled(scaling, np.full(10, 0.1))
    assert np.isfinite(out).all()
    assert len(set(out.tolist())) == 1


def test_missing_values_take_the_mean_or_median_of_training():
    values = np.array([1.0, 2.0, 6.0, np.nan])
    assert scaled("none", values, missing="mean")[3] == 3.0
    assert scaled("none", values, missing="median")[3] == 2.0
    with pytest.raises(ConfigError, match="no finite value in the training split"):
        scaled("none", np.array([np.nan]), missing="mean")


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (5, "an event is an object of branches"),
        ({"met": 1.0}, "branch 'corners' is missing"),
        ({"met": "high"}, "branch 'met' takes numbers, not a string"),
        ({"met": True}, "branch 'met' takes numbers, not a boolean"),
        ({"met": [1.0]}, "branch 'met' takes numbers, not a list"),
        ({"met": 1e300}, "is not in float32's range"),
        ({"met": 10**400}, "is not in float32's range"),
        ({"corners": [1.0]}, "branch 'corners' takes 3 numbers, not 1"),
        ({"pt": 3.0}, "branch 'pt' takes a list, not 3.0"),
        ({"id": [1.5]}, "branch 'id' takes integers, not 1.5"),
        ({"id": [2**40]}, "is not in int32's range"),
        ({"id": [None]}, "branch 'id' takes integers, not nan"),
        ({"ok": 2}, "branch 'ok' takes true or false"),
    ],
)
def test_bad_events_are_refused_alone(event, reason):
    good = {"met": 1.0, "corners": [1, 2, 3], "pt": [1.0], "id": [1], "ok": True}
    bad = event if not isinstance(event, dict) or event == {"met": 1.0} else good | event
    columns, faults = columns_from_events([good, bad, good], TRANSFORM)
    assert len(columns["met"]) == 2
    assert list(faults) == [1]
    assert reason in faults[1]


@pytest.mark.parametrize("dtype", ["object", "S4", "nonsense", "M8[s]"])
def test_a_transform_of_other_than_numbers_is_refused(dtype):
    with pytest.raises(ValueError, match="not a numeric dtype"):
        FeatureTransform(branch="x", kind="flat", dtype=dtype, width=1)
