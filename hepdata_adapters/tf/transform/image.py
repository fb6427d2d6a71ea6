"""Images in TensorFlow operations, for SavedModels; and sparse ones as ``tf.SparseTensor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.graph.image import dense_image
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.objects import TENSORS


def image(
    columns: Mapping[str, tf.Tensor | Padded], transform: ImageTransform
) -> dict[str, tf.Tensor]:
    """Prepared columns to ``{"": (n, c, b1, ...) float32}``, as the `ImageTransform` gives it.

    Raises ConfigError for a sparse image, BranchError for a branch that is not padded and, when
    it runs, ``tf.errors.InvalidArgumentError`` for values that a policy forbids.

    >>> from hepdata_adapters.common.transform.image import ImageBins
    >>> transform = ImageTransform(axes=(ImageBins(branch="eta", edges=(-1, 0, 1)),))
    >>> eta = Padded(tf.constant([[0.5, 0.7], [-0.5, 9.0]]), tf.constant([2, 1], tf.int64))
    >>> image({"eta": eta}, transform)[""].numpy().tolist()
    [[[0.0, 2.0]], [[1.0, 0.0]]]
    """
    if transform.sparse:
        raise ConfigError("a sparse image cannot be part of a graph: set sparse to false")
    edges = [tf.constant(axis.edges, tf.float64) for axis in transform.axes]
    return dense_image(TENSORS, columns, transform, edges)


def to_sparse(
    cells: tf.Tensor, values: tf.Tensor, offsets: tf.Tensor, shape: Sequence[int]
) -> tf.SparseTensor:
    """A batch of sparse images as one ordered tensor ``(n, *shape)`` float32.

    cells ``(m, ndim + 1)`` int64, values ``(m,)`` float32 and offsets ``(n + 1,)`` int64 as an
    `ImageTransform` of this ``shape`` gives them.

    >>> found = to_sparse(tf.constant([[0, 1]], tf.int64), tf.constant([3.0]),
    ...                   tf.constant([0, 0, 1], tf.int64), (1, 2))
    >>> tf.sparse.to_dense(found).numpy().tolist()
    [[[0.0, 0.0]], [[0.0, 3.0]]]
    """
    lengths = offsets[1:] - offsets[:-1]
    events = tf.size(lengths, tf.int64)
    rows = tf.repeat(tf.range(events), lengths)
    return tf.SparseTensor(
        tf.concat([rows[:, tf.newaxis], cells], 1),
        values,
        tf.concat([events[tf.newaxis], tf.constant(shape, tf.int64)], 0),
    )
