"""Ragged values as ``tf.RaggedTensor``."""

from __future__ import annotations

import tensorflow as tf


def to_ragged(values: tf.Tensor, offsets: tf.Tensor) -> tf.RaggedTensor:
    """Values ``(m, f)`` and offsets ``(n + 1,)`` int64 as ``(n, None, f)``, without a copy.

    >>> to_ragged(tf.ones([3, 1]), tf.constant([0, 1, 1, 3], tf.int64)).to_list()
    [[[1.0]], [], [[1.0], [1.0]]]
    """
    # offsets are made by this package; checking them would cost more than the tensor
    return tf.RaggedTensor.from_row_splits(values, offsets, validate=False)
