"""Padded sets of objects in TensorFlow operations, for SavedModels."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from hepdata_adapters.common.transform.graph import sets
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.objects import TENSORS
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
    fill, pad = (tf.constant(x, tf.float64) for x in (sets.fills(transform), transform.pad))
    arrays = sets.padded_set(
        TENSORS, columns, transform, lambda raw: encode(raw, transform.features), fill, pad
    )
    shape = [None, transform.length, len(transform.features)]
    return arrays | {"": tf.ensure_shape(arrays[""], shape)}
