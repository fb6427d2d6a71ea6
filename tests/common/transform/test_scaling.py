"""Scalings: what they are in training, where they end, and that they can be turned around."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hepdata_adapters.common.config.feature_config import ConstantScaling, FunctionScaling, Scaling
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.events.layout import ResolvedFeature
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.sums import summarize
from hepdata_adapters.common.transform.scaling_parameters import feature_transform, notes
from hepdata_adapters.common.transform.scalings import Quantile, Registered
from hepdata_adapters.common.transform.scalings.registered import scaling_function
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from tests.helpers.scaling_functions import square_root


def resolved(scaling: Scaling, dtype: str = "float64", **options: Any) -> ResolvedFeature:
    values = {"length": 0.99, "missing": "error", "overflow": "truncate"} | options
    return ResolvedFeature(Branch("x", "flat", dtype), scaling, **values)


def built(scaling: Scaling, values: np.ndarray, **options: Any) -> FeatureTransform:
    feature = resolved(scaling, values.dtype.name, **options)
    return feature_transform(feature, summarize(feature.branch, values))


def scaled(scaling: Scaling, values: np.ndarray, **options: Any) -> np.ndarray:
    transform = VectorTransform(features=(built(scaling, values, **options),))
    return transform({"x": values}).x[:, 0]


RNG = np.random.default_rng(0)
VALUES = RNG.normal(5, 3, 20_000)
TAIL = np.exp(RNG.normal(3, 1.5, 20_000))
NAMED = ["none", "minmax", "standard", "robust", "log", "log1p", "asinh", "quantile"]
USER = [ConstantScaling(center=20, scale=7), FunctionScaling(function="test_cube_root")]


# --- what they are in training -----------------------------------------------------------------


def test_minmax_maps_the_training_range_to_zero_and_one():
    out = scaled("minmax", VALUES)
    assert (out.min(), out.max()) == (0.0, 1.0)
    clipped = scaled("minmax", VALUES, clip=(0, 8))
    assert (clipped.min(), clipped.max()) == (0.0, 1.0)
    assert 0.1 < (clipped == 1).mean() < 0.2


def test_standard_has_mean_zero_and_deviation_one():
    out = scaled("standard", VALUES)
    assert out.mean() == pytest.approx(0, abs=1e-5)
    assert out.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("scaling", "values"), [("robust", VALUES), ("log", TAIL), ("log1p", TAIL)]
)
def test_median_zero_and_half_the_16_84_distance_one(scaling: Scaling, values: np.ndarray):
    low, middle, high = np.quantile(scaled(scaling, values), [0.16, 0.5, 0.84])
    assert middle == pytest.approx(0, abs=0.01)
    assert (high - low) / 2 == pytest.approx(1, abs=0.01)


def test_asinh_is_of_the_distance_from_the_median_in_spreads():
    low, middle, high = np.quantile(TAIL, [0.16, 0.5, 0.84])
    expected = np.arcsinh((TAIL - middle) / ((high - low) / 2))
    np.testing.assert_allclose(scaled("asinh", TAIL), expected, atol=0.02)


def test_quantile_is_uniform_and_counts_what_lies_beyond_training():
    out = scaled("quantile", TAIL)
    assert (out.min(), out.max()) == (0, 1)
    edges = np.linspace(0, 1, 11)
    np.testing.assert_allclose(np.histogram(out, edges)[0] / len(out), 0.1, atol=0.01)
    transform = VectorTransform(features=(built("quantile", TAIL),))
    assert transform.counted == (("values clipped", "x"),)
    beyond = transform({"x": np.array([TAIL.min() / 2, TAIL.max(), TAIL.max() * 2])})
    assert beyond.x[:, 0].tolist() == [0, 1, 1]
    assert beyond.counts[:, 0].tolist() == [1, 0, 1]


def test_quantile_of_a_few_values_can_be_turned_around():
    values = np.repeat([0.0, 1.0, 5.0], [50, 30, 20])
    transform = built("quantile", values)
    found = transform.encode(values).values
    assert found[0] == 0 < found[60] < found[99] == 1
    np.testing.assert_allclose(transform.decode(found), values, rtol=1e-6, atol=1e-6)


def test_none_constants_and_functions_take_values_as_they_are():
    np.testing.assert_array_equal(scaled("none", VALUES), VALUES.astype(np.float32))
    constant = scaled(ConstantScaling(center=2, scale=4), VALUES)
    np.testing.assert_array_equal(constant, ((VALUES - 2) * 0.25).astype(np.float32))
    function = scaled(FunctionScaling(function="test_cube_root"), VALUES)
    np.testing.assert_allclose(function, np.cbrt(VALUES), rtol=1e-6)


@pytest.mark.parametrize("scaling", [*NAMED, *USER])
def test_a_constant_column_stays_finite(scaling: Scaling):
    out = scaled(scaling, np.full(10, 0.1))
    assert np.isfinite(out).all()
    assert len(set(out.tolist())) == 1
    if scaling in NAMED[1:]:
        assert out[0] == 0


@pytest.mark.parametrize("scaling", NAMED)
def test_a_column_without_values_stays_as_it_is(scaling: Scaling):
    transform = built(scaling, np.full(3, np.nan), missing=4.0)
    out = transform.encode(np.array([np.nan, 2.0]))
    assert out.values.tolist() == [4, 2]
    assert out.filled.tolist() == [True, False]


def test_logarithms_where_one_value_fills_the_middle():
    """The 16 % and 84 % quantiles coincide: the standard deviation of the logarithms scales."""
    values = np.concatenate([np.full(900, 2.0), np.exp(RNG.uniform(1, 3, 100))])
    out = scaled("log", values)
    assert out.std() == pytest.approx(1, rel=0.05)


def test_missing_values_take_the_mean_or_median_of_training():
    values = np.array([1.0, 2.0, 6.0, np.nan])
    assert scaled("none", values, missing="mean")[3] == 3.0
    assert scaled("none", values, missing="median")[3] == 2.0
    assert scaled("none", values, missing="mean", clip=(None, 2.5))[3] == 2.5
    assert scaled("none", values, missing=7.0, clip=(None, 2.5))[3] == 7.0
    with pytest.raises(ConfigError, match="no finite value in the training split"):
        scaled("none", np.array([np.nan]), missing="mean")


def test_events_that_training_leaves_out_are_refused_in_serving():
    transform = built("none", VALUES, missing="drop", overflow="drop")
    assert (transform.missing, transform.overflow) == (None, "error")


def test_notes_say_what_is_odd_about_a_column():
    def said(values: list[float], **options: Any) -> list[str]:
        feature = resolved("none", **options)
        return notes(feature, summarize(feature.branch, np.array(values)))

    assert said([1, 2]) == []
    assert said([5, 5]) == ["x is constant (5)"]
    assert said([np.nan]) == ["x has no values in training"]
    assert said([1, 2], clip=(3, None)) == ["x is constant once clipped (3)"]


def test_unscaled_integers_beyond_float32_are_refused_unless_clipped():
    values = np.array([1, 2**30])
    with pytest.raises(ConfigError, match="float32 tells integers apart only up to"):
        built("none", values)
    assert built("none", values, clip=(0, 100)).encode(values).values.tolist() == [1, 100]


# --- outside of the domain -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaling", "lowest", "reason"),
    [
        ("log", 0.0, "'x' goes down to 0, and log takes values above 0 only: .* log1p, asinh, or"),
        ("log1p", -3.0, "'x' goes down to -3, and log1p takes values above -1 only: .* asinh, or"),
    ],
)
def test_training_values_without_a_logarithm_are_a_config_error(scaling, lowest, reason):
    values = np.array([lowest, 1.0, 2.0])
    with pytest.raises(ConfigError, match=reason):
        built(scaling, values)
    assert np.isfinite(scaled(scaling, values, clip=(0.5, None))).all()


def test_later_values_without_a_logarithm_are_missing():
    columns = {"x": np.array([2.0, 0.0, -1.0, np.inf])}
    filled = VectorTransform(features=(built("log", TAIL, missing=20.0, indicator=True),))
    out = filled(columns)
    assert out.mask[:, 0].tolist() == [True, False, False, False]
    assert out.x[:, 1].tolist() == [0, 1, 1, 1]
    assert out.counts[:, 0].tolist() == [0, 1, 1, 1]
    strict = VectorTransform(features=(built("log", TAIL),))
    with pytest.raises(InvalidValueError, match=r"x holds NaN or infinity \(event 3"):
        strict(columns)
    with pytest.raises(InvalidValueError, match=r"x is outside of the domain of log \(event 1"):
        strict({"x": columns["x"][:3]})


def test_a_fill_value_outside_of_the_domain_is_a_config_error():
    with pytest.raises(ConfigError, match="the fill value 0 is outside of the domain of log"):
        built("log", TAIL, missing=0.0)


# --- and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [*NAMED, *USER])
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), unit=st.sampled_from([1e-3, 1, 1e6]), offset=st.booleans())
def test_decoding_gives_the_values_back(scaling, seed, unit, offset):
    values = np.exp(np.random.default_rng(seed).normal(3, 1, 300)) * unit + 1e3 * offset * unit
    transform = built(scaling, values)
    found = transform.decode(transform.encode(values).values)
    spread = np.ptp(np.quantile(values, [0.16, 0.84])) / 2
    if isinstance(scaling, ConstantScaling):
        spread = scaling.scale
    error = np.abs(found - values) / np.maximum(values, max(spread, 1.0 * (scaling == "log1p")))
    if isinstance(transform.function, Quantile):
        # float32 has 2^-25 of rounding below 1, and one percent may be a long tail
        step = np.diff(transform.function.knots).max() * 2.0**-25 / 0.01
        assert np.abs(found - values).max() <= 1.01 * step
        middle = (values > np.quantile(values, 0.05)) & (values < np.quantile(values, 0.95))
        assert error[middle].max() < 1e-6
    else:
        assert error.max() < 1e-6


def test_only_scalings_with_an_inverse_are_turned_around():
    one = built(FunctionScaling(function="test_square_root"), TAIL)
    other = FeatureTransform(branch="y", kind="flat", dtype="float32", width=1)
    transform = VectorTransform(features=(one, other))
    out = transform({"x": TAIL, "y": TAIL})
    with pytest.raises(ConfigError, match="the scaling of x has no inverse"):
        transform.inverse(out.x, out.mask)


# --- functions of the user's ------------------------------------------------------------------


def test_a_function_of_a_file_is_registered_by_its_import(tmp_path: Path):
    file = tmp_path / "halves.py"
    file.write_text(
        "from hepdata_adapters.common.transform.scalings.registered import scaling_function\n"
        "@scaling_function('test_half', inverse=lambda xp, values: values * 2)\n"
        "def half(xp, values):\n    return values / 2\n"
        "def third(xp, values):\n    return values / 3\n"
    )
    for _ in range(2):  # a second import replaces the function
        transform = built(FunctionScaling(function=f"{file}:half"), VALUES)
        assert transform.function == Registered(name="test_half")
    assert transform.encode(np.array([4.0])).values.tolist() == [2]
    with pytest.raises(ConfigError, match="third' is not registered: put @scaling_function"):
        built(FunctionScaling(function=f"{file}:third"), VALUES)
    with pytest.raises(ConfigError, match="has no function 'fourth'"):
        built(FunctionScaling(function=f"{file}:fourth"), VALUES)


def test_a_transform_of_an_unknown_function_says_what_to_import():
    text = FeatureTransform(
        branch="x",
        kind="flat",
        dtype="float32",
        width=1,
        function=Registered(name="test_cube_root"),
    ).model_dump_json()
    program = (
        "import sys\n"
        "from hepdata_adapters.common.transform.vector_feature import FeatureTransform\n"
        "FeatureTransform.model_validate_json(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, text], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "ConfigError: no scaling function is called 'test_cube_root'" in last
    assert "import the module that registers it" in last


def test_two_functions_cannot_share_a_name():
    with pytest.raises(ConfigError, match=r"'test_cube_root' is already .*cube_root"):
        scaling_function("test_cube_root")(square_root)


def test_what_a_function_does_wrong_is_told():
    @scaling_function("test_wrong_shape")
    def wrong_shape(xp: Any, values: Any) -> Any:
        return values[:1]

    @scaling_function("test_raises")
    def raises(xp: Any, values: Any) -> Any:
        return 1 / 0

    for name, reason in {
        "test_wrong_shape": r"returned shape \(1,\) for \(3,\)",
        "test_raises": "failed: ZeroDivisionError",
    }.items():
        feature = FeatureTransform(
            branch="x", kind="flat", dtype="float64", width=1, function=Registered(name=name)
        )
        with pytest.raises(ConfigError, match=reason):
            feature.encode(np.zeros(3))


def test_knots_and_levels_grow():
    with pytest.raises(ValidationError, match="knots and levels of a quantile function grow"):
        Quantile(knots=(0, 0, 1), levels=(0, 0.5, 1))
    with pytest.raises(ValidationError, match="as many levels as knots"):
        Quantile(knots=(0, 1), levels=(0, 0.5, 1))
