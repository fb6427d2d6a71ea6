"""Images in TensorFlow operations, for SavedModels; and sparse ones as ``tf.SparseTensor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.scaling import LARGEST
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.objects import because, fitted, members, refuse_events


def image(
    columns: Mapping[str, tf.Tensor | Padded], transform: ImageTransform
) -> dict[str, tf.Tensor]:
    """Prepared columns to ``{"": (n, c, b1, ...) float32}``, as the `ImageTransform` gives it.

    Raises ConfigError for a sparse image, BranchError for a branch that is not padded and, when
    it runs, ``tf.errors.InvalidArgumentError`` for values that a policy forbids.

    >>> transform = ImageTransform(axes=(ImageBins(branch="eta", edges=(-1, 0, 1)),))
    >>> eta = Padded(tf.constant([[0.5, 0.7], [-0.5, 9.0]]), tf.constant([2, 1], tf.int64))
    >>> image({"eta": eta}, transform)[""].numpy().tolist()
    [[[0.0, 2.0]], [[1.0, 0.0]]]
    """
    if transform.sparse:
        raise ConfigError("a sparse image cannot be part of a graph: set sparse to false")
    objects = members(columns, transform.branches)
    inside = objects.present
    cell = tf.zeros_like(inside, tf.int64)
    for axis in transform.axes:
        values = tf.cast(objects.values[axis.branch], tf.float64)
        if transform.center == "leading":
            values = values - fitted(values, 1)
        found, has_bin = _find(values, axis)
        cell = cell * axis.bins + found
        inside = inside & has_bin
    if transform.outside == "error":
        branch = transform.axes[0].branch
        refuse_events(objects.present & ~inside, because(f"{branch} lies outside the image"))
    weights = []
    for channel in transform.channels:
        if channel is None:
            weights.append(tf.cast(inside, tf.float64))
            continue
        weight = tf.cast(objects.values[channel], tf.float64)
        refuse_events(
            objects.present & ~tf.math.is_finite(weight),
            because(f"{channel} holds NaN or infinity"),
        )
        weights.append(weight)
    sums = _sums(cell, tf.stack(weights, 2), inside, transform.cells)
    refuse_events(~(tf.abs(sums) <= LARGEST), because("a cell adds up to more than float32 holds"))
    channels = len(transform.channels)
    dense = tf.reshape(tf.cast(sums, tf.float32), [-1, *transform.bins, channels])
    if not transform.channels_last:
        rank = len(transform.shape)
        dense = tf.transpose(dense, [0, rank, *range(1, rank)])
    return {"": dense}


def _find(values: tf.Tensor, axis: ImageBins) -> tuple[tf.Tensor, tf.Tensor]:
    """The bin of each value ``(n, m)``, and whether it has one; as `ImageBins.find`."""
    edges = tf.constant(axis.edges, tf.float64)
    first, last = edges[0], edges[-1]
    if axis.periodic:
        rest = tf.truncatemod(values - first, last - first)
        rest = tf.where(rest < 0, rest + (last - first), rest)
        values = tf.where((values >= first) & (values < last), values, first + rest)
    places = tf.searchsorted(edges, tf.reshape(values, [-1]), "right", tf.int64) - 1
    places = tf.reshape(tf.clip_by_value(places, 0, axis.bins - 1), tf.shape(values))
    return places, (values >= first) & (values <= last)


def _sums(cell: tf.Tensor, weights: tf.Tensor, inside: tf.Tensor, cells: int) -> tf.Tensor:
    """``cell (n, m)``, ``weights (n, m, c)`` of the objects inside, to ``(n, cells, c)``."""
    places = tf.where(inside)
    numbers = tf.stack([places[:, 0], tf.gather_nd(cell, places)], 1)
    shape = [tf.shape(cell, tf.int64)[0], cells, weights.shape[2]]
    return tf.scatter_nd(numbers, tf.gather_nd(weights, places), shape)


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
