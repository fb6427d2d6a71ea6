"""The scaling of values in plain TensorFlow ops, what `ValueScaling.encode` does.

TensorFlow takes numbers below 2.2e-308 (of float64) for zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import tensorflow as tf
import tensorflow.experimental.numpy as tnp

from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.transform.scaling import LARGEST, ValueScaling
from hepdata_adapters.common.transform.scalings.function import ScalingBackend
from hepdata_adapters.tf.transform.expressions import TfMathematics


def encode(
    raw: tf.Tensor, features: Sequence[ValueScaling]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """``raw`` ``(..., c)`` float64 of c features → values float32, real bool, refused bool.

    real: neither NaN nor infinite, and in the domain of the function. What stands for a refused
    value means nothing.

    >>> met = ValueScaling(
    ...     branch="MET", dtype="float32", factor=0.5, missing=3)
    >>> raw = tf.constant([[10.0], [float("nan")]], tf.float64)
    >>> [part.numpy().tolist() for part in encode(raw, [met])]
    [[[5.0], [1.5]], [[True], [False]], [[False], [False]]]
    """
    columns = [encode_column(raw[..., i], feature) for i, feature in enumerate(features)]
    values, real, refused = (tf.stack(parts, -1) for parts in zip(*columns, strict=True))
    return values, real, refused


def encode_column(raw: tf.Tensor, feature: ValueScaling) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`encode` for float64 values of one feature, of any shape."""
    real = tf.math.is_finite(raw)
    values = raw
    if feature.clip is not None:
        low, high = feature.interval
        values = tf.clip_by_value(values, tf.constant(low, raw.dtype), tf.constant(high, raw.dtype))
    if feature.function is not None:
        values = feature.function.forward(TF, values, *feature.function.numbers)
        real &= tf.math.is_finite(values)
    scaled = (values - feature.center) * feature.factor
    refused = ~real if feature.missing is None else tf.zeros_like(real)
    if feature.may_overflow:
        refused |= real & (tf.abs(scaled) > LARGEST)
    filled = tf.where(real, scaled, tf.constant(feature.fill, raw.dtype))
    return tf.cast(filled, tf.float32), real, refused


class TfBackend:
    """`ScalingBackend` on float64 tensors of any shape."""

    math = cast(Mathematics, TfMathematics)
    namespace: Any = tnp

    @staticmethod
    def interpolate(
        values: tf.Tensor, knots: Sequence[float], levels: Sequence[float]
    ) -> tf.Tensor:
        table, heights = tf.constant(knots, tf.float64), tf.constant(levels, tf.float64)
        above = tf.searchsorted(table, tf.reshape(values, [-1]), side="right")
        place = tf.reshape(tf.clip_by_value(above - 1, 0, len(knots) - 2), tf.shape(values))
        left, right = tf.gather(table, place), tf.gather(table, place + 1)
        low, high = tf.gather(heights, place), tf.gather(heights, place + 1)
        part = tf.clip_by_value((values - left) / (right - left), 0.0, 1.0)
        return tf.ensure_shape(low + part * (high - low), values.shape)

    @staticmethod
    def as_values(result: Any, values: tf.Tensor) -> tf.Tensor:
        tensor = tf.convert_to_tensor(result)
        try:
            tensor.shape.assert_is_compatible_with(values.shape)
        except ValueError as error:
            raise ValueError(f"failed: {error!r}") from None
        return tf.cast(tensor, tf.float64)


TF: ScalingBackend = TfBackend()
