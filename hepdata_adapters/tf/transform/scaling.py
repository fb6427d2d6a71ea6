"""The scaling of values in plain TensorFlow ops, what `FeatureTransform.encode` does.

TensorFlow takes numbers below 2.2e-308 (of float64) for zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tensorflow.experimental.numpy as tnp

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.scaling import LARGEST, FeatureTransform
from hepdata_adapters.common.transform.scaling_functions import (
    Asinh,
    Log,
    Log1p,
    Quantile,
    ScalingFunction,
    registered,
)


def encode(
    raw: tf.Tensor, features: Sequence[FeatureTransform]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """``raw`` ``(..., c)`` float64 of c features → values float32, real bool, refused bool.

    real: neither NaN nor infinite, and in the domain of the function. What stands for a refused
    value means nothing.

    >>> met = FeatureTransform(
    ...     branch="MET", kind="flat", dtype="float32", width=1, factor=0.5, missing=3)
    >>> raw = tf.constant([[10.0], [float("nan")]], tf.float64)
    >>> [part.numpy().tolist() for part in encode(raw, [met])]
    [[[5.0], [1.5]], [[True], [False]], [[False], [False]]]
    """
    columns = [encode_column(raw[..., i], feature) for i, feature in enumerate(features)]
    values, real, refused = (tf.stack(parts, -1) for parts in zip(*columns, strict=True))
    return values, real, refused


def encode_column(
    raw: tf.Tensor, feature: FeatureTransform
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`encode` for float64 values of one feature, of any shape."""
    real = tf.math.is_finite(raw)
    values = raw
    if feature.clip is not None:
        low, high = feature.interval
        values = tf.clip_by_value(values, tf.constant(low, raw.dtype), tf.constant(high, raw.dtype))
    if feature.function is not None:
        values = _apply(feature.function, values)
        real &= tf.math.is_finite(values)
    scaled = (values - feature.center) * feature.factor
    refused = ~real if feature.missing is None else tf.zeros_like(real)
    if feature.may_overflow:
        refused |= real & (tf.abs(scaled) > LARGEST)
    filled = tf.where(real, scaled, tf.constant(feature.fill, raw.dtype))
    return tf.cast(filled, tf.float32), real, refused


def _apply(function: ScalingFunction, values: tf.Tensor) -> tf.Tensor:
    if isinstance(function, Log):
        return tf.math.log(values)
    if isinstance(function, Log1p):
        return tf.math.log1p(values)
    if isinstance(function, Asinh):
        return tf.math.asinh((values - function.center) / function.scale)
    if isinstance(function, Quantile):
        return _interpolated(function, values)
    try:
        result = tf.convert_to_tensor(registered(function.name).function(tnp, values))
        result.shape.assert_is_compatible_with(values.shape)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"scaling function {function.name!r} failed: {error!r}") from error
    return tf.cast(result, tf.float64)


def _interpolated(function: Quantile, values: tf.Tensor) -> tf.Tensor:
    """Straight lines between the knots; what lies beyond gets the first or last level."""
    knots = tf.constant(function.knots, tf.float64)
    levels = tf.constant(function.levels, tf.float64)
    found = tf.searchsorted(knots, tf.reshape(values, [-1]), side="right") - 1
    place = tf.reshape(tf.clip_by_value(found, 0, len(function.knots) - 2), tf.shape(values))
    left, right = tf.gather(knots, place), tf.gather(knots, place + 1)
    low, high = tf.gather(levels, place), tf.gather(levels, place + 1)
    part = tf.clip_by_value((values - left) / (right - left), 0.0, 1.0)
    return tf.ensure_shape(low + part * (high - low), values.shape)
