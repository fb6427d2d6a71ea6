"""Padded sets of objects in TensorFlow operations, for SavedModels."""

from __future__ import annotations

import math
from collections.abc import Mapping

import tensorflow as tf

from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.objects import because, fitted, members, refuse_events
from hepdata_adapters.tf.transform.scaling import encode


def padded_set(
    columns: Mapping[str, tf.Tensor | Padded], transform: SetTransform
) -> dict[str, tf.Tensor]:
    """Prepared columns to "" ``(n, k, f)`` and "_mask" ``(n, k)``, as the `SetTransform` does.

    Raises BranchError for a branch that is not padded and, when it runs,
    ``tf.errors.InvalidArgumentError`` for values that a policy forbids.

    >>> from hepdata_adapters.common.transform.scaling import ValueScaling
    >>> transform = SetTransform(length=2, features=(ValueScaling(
    ...     branch="pt", dtype="float32", factor=0.5),))
    >>> pt = Padded(tf.constant([[8.0, 6.0, 4.0], [30.0, 0.0, 0.0]]), tf.constant([3, 1], tf.int64))
    >>> arrays = padded_set({"pt": pt}, transform)
    >>> arrays[""].numpy().tolist(), arrays["_mask"].numpy().tolist()
    ([[[4.0], [3.0]], [[15.0], [0.0]]], [[True, True], [True, False]])
    """
    objects = members(columns, transform.branches)
    dtype = tf.int64 if transform.dtype == "int64" else tf.float64
    raw = tf.stack([tf.cast(objects.values[name], dtype) for name in transform.branches], 2)
    values, refused = _encoded(raw, transform)
    for number, branch in enumerate(transform.branches):
        refuse_events(
            refused[:, :, number] & objects.present,
            because(f"{branch} holds NaN, infinity or a value that its scaling does not allow"),
        )
    if transform.overflow == "error":
        refuse_events(
            objects.lengths > transform.length,
            lambda row: (
                f"{transform.branches[0]} has ",
                tf.strings.as_string(objects.lengths[row]),
                f" objects, at most {transform.length} fit",
            ),
        )
    mask = tf.range(transform.length, dtype=tf.int64) < objects.lengths[:, tf.newaxis]
    kept = fitted(values, transform.length)
    pad = tf.cast(tf.constant(transform.pad, tf.float64), kept.dtype)
    x = tf.where(mask[:, :, tf.newaxis], kept, pad)
    return {
        "": tf.ensure_shape(x, [None, transform.length, len(transform.features)]),
        "_mask": mask,
    }


def _encoded(raw: tf.Tensor, transform: SetTransform) -> tuple[tf.Tensor, tf.Tensor]:
    """Values of the dtype of the set, and which of them their policies refuse."""
    if transform.dtype == "float32":
        scaled, _, refused = encode(raw, transform.features)
        return scaled, refused
    if transform.dtype == "int64":
        return raw, tf.zeros_like(raw, tf.bool)
    # NaN stays where nothing may replace it
    fill = [math.nan if f.missing is None else f.missing for f in transform.features]
    values = tf.where(tf.math.is_finite(raw), raw, tf.constant(fill, tf.float64))
    return values, tf.math.is_nan(values)
