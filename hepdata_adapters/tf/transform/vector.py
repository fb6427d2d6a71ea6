"""The vector in TensorFlow operations: prepared columns to ``x``, ``mask`` and ``lengths``."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from hepdata_adapters.common.transform.scaling import NOT_FINITE, TOO_LARGE, undefined_by
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.objects import because, refuse_events
from hepdata_adapters.tf.transform.scaling import encode_column


def event_vectors(
    columns: Mapping[str, tf.Tensor | Padded], transform: VectorTransform
) -> dict[str, tf.Tensor]:
    """``x``, ``mask`` and ``lengths`` of n events from prepared columns by branch.

    Flat ``(n,)`` and array ``(n, k)`` columns, jagged ones `Padded`; in the dtype of the branch or
    float64. Raises ``tf.errors.InvalidArgumentError`` for values that their policies forbid.
    """
    x, mask, lengths = [], [], []
    for feature in transform.features:
        column = columns[feature.branch]
        if isinstance(column, Padded):
            values = column.values
            exists = tf.range(tf.shape(values, tf.int64)[1]) < column.lengths[:, tf.newaxis]
        else:
            values = tf.reshape(column, [-1, feature.width])
            exists = tf.ones_like(values, tf.bool)
        scaled, real = _scaled(values, exists, feature)
        if isinstance(column, Padded):
            if feature.overflow == "error":
                _refuse_overlong(column.lengths, feature)
            lengths.append(tf.cast(tf.minimum(column.lengths, feature.width), tf.int32))
        x.append(_fitted(scaled, feature.width, feature.pad))
        mask.append(_fitted(real, feature.width, False))
        if feature.indicator:
            missing = tf.cast(exists & ~real, tf.float32)
            x.append(_fitted(missing, feature.width, 0.0))
            mask.append(_fitted(exists, feature.width, False))
    whole = tf.concat(x, 1)
    return {
        "x": whole,
        "mask": tf.concat(mask, 1),
        "lengths": tf.stack(lengths, 1) if lengths else tf.zeros([tf.shape(whole)[0], 0], tf.int32),
    }


def _scaled(
    values: tf.Tensor, exists: tf.Tensor, feature: FeatureTransform
) -> tuple[tf.Tensor, tf.Tensor]:
    """``(n, m)`` raw values to scaled ones, float32, and which of them are real, bool.

    Scaled in float64, as the reference does, so that large values lose digits only in the end.
    """
    wide = tf.where(exists, tf.cast(values, tf.float64), tf.constant(0, tf.float64))
    scaled, real, refused = encode_column(wide, feature)
    if feature.missing is None and feature.may_miss:
        finite = tf.math.is_finite(wide)
        _refuse_values(exists & ~finite, feature, NOT_FINITE)
        if feature.function is not None:
            _refuse_values(exists & finite & ~real, feature, undefined_by(feature.function))
    if feature.may_overflow:
        _refuse_values(exists & real & refused, feature, TOO_LARGE)
    return tf.where(exists, scaled, tf.constant(feature.pad, tf.float32)), exists & real


def _fitted(values: tf.Tensor, width: int, pad: float | bool) -> tf.Tensor:
    """``(n, m)`` cut or padded to ``(n, width)``."""
    kept = values[:, :width]
    fitted = tf.pad(kept, [[0, 0], [0, width - tf.shape(kept)[1]]], constant_values=pad)
    return tf.ensure_shape(fitted, [None, width])


def _refuse_values(bad: tf.Tensor, feature: FeatureTransform, reason: str) -> None:
    """Fail if any of the ``(n, m)`` flags is set."""
    refuse_events(bad, because(f"{feature.branch} {reason}"))


def _refuse_overlong(lengths: tf.Tensor, feature: FeatureTransform) -> None:
    """Fail if an event has more values than the pad length."""
    refuse_events(
        lengths > feature.width,
        lambda row: (
            f"{feature.branch} has ",
            tf.strings.as_string(lengths[row]),
            f" values, at most {feature.width} fit",
        ),
    )
