"""The primitives of representations in TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import tensorflow as tf

from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.transform.graph.backend import TensorBackend
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.tf.transform.expressions import Padded, TfMathematics, evaluate


def refuse_events(bad: tf.Tensor, reason: Callable[[tf.Tensor], tuple[Any, ...]]) -> None:
    """Fail if any of the ``(n,)`` or ``(n, ...)`` flags is set.

    reason: of the number of the first such event, the parts of the message.
    """

    def fail() -> Any:
        flags = tf.reshape(tf.cast(bad, tf.int32), [tf.shape(bad)[0], -1])
        row = tf.argmax(tf.reduce_max(flags, 1))
        place = (" (event ", tf.strings.as_string(row), " of those given)")
        return tf.debugging.Assert(False, [tf.strings.join([*reason(row), *place])])

    # the message is made only where it is needed; strings cost more than the transform
    tf.cond(tf.reduce_any(bad), fail, tf.no_op)


def because(reason: str) -> Callable[[tf.Tensor], tuple[Any, ...]]:
    """A reason for `refuse_events` that is the same for all events."""
    return lambda _: (reason,)


class TfTensors(TensorBackend):
    """`TensorBackend` that raises ``tf.errors.InvalidArgumentError`` when the graph runs."""

    math = cast(Mathematics, TfMathematics)
    padded = Padded
    stack, expand = staticmethod(tf.stack), staticmethod(tf.expand_dims)
    cast, fmod = staticmethod(tf.cast), staticmethod(tf.truncatemod)
    evaluate = staticmethod(evaluate)
    width = staticmethod(lambda values: tf.shape(values)[1])
    places = staticmethod(lambda width, like: tf.range(width, dtype=tf.int64))
    upwards = staticmethod(lambda values: tf.argsort(values, axis=1, stable=True))
    gather = staticmethod(lambda values, places: tf.gather(values, places, batch_dims=1))
    count = staticmethod(lambda flags: tf.reduce_sum(tf.cast(flags, tf.int64), 1))

    @staticmethod
    def fitted(values: tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
        kept = values[:, :width]
        missing = [[0, 0], [0, width - tf.shape(kept)[1]], *[[0, 0]] * (values.shape.rank - 2)]
        return tf.pad(kept, missing)

    @staticmethod
    def last_not_above(values: tf.Tensor, edges: tf.Tensor) -> tf.Tensor:
        places = tf.searchsorted(edges, tf.reshape(values, [-1]), "right", tf.int64) - 1
        return tf.reshape(tf.clip_by_value(places, 0, edges.shape[0] - 2), tf.shape(values))

    @staticmethod
    def cell_sums(
        cell: tf.Tensor, weights: Sequence[Any], inside: tf.Tensor, image: ImageTransform
    ) -> tf.Tensor:
        counted = [tf.cast(inside, tf.float64) if w is None else w for w in weights]
        places = tf.where(inside)
        numbers = tf.stack([places[:, 0], tf.gather_nd(cell, places)], 1)
        shape = [tf.shape(cell, tf.int64)[0], image.cells, len(weights)]
        return tf.scatter_nd(numbers, tf.gather_nd(tf.stack(counted, 2), places), shape)

    @staticmethod
    def images(sums: tf.Tensor, image: ImageTransform) -> tf.Tensor:
        found, last = tf.reshape(sums, [-1, *image.bins, len(image.channels)]), len(image.shape)
        return found if image.channels_last else tf.transpose(found, [0, last, *range(1, last)])

    @staticmethod
    def refuse(flags: tf.Tensor, *message: Any) -> None:
        def of_event(part: Any, row: tf.Tensor) -> Any:
            if isinstance(part, str):
                return part
            return tf.strings.as_string(part[row] if part.shape.rank else part)

        refuse_events(flags, lambda row: tuple(of_event(part, row) for part in message))

    @classmethod
    def refuse_columns(cls, flags: Any, present: Any, names: Sequence[str], reason: str) -> None:
        for number, name in enumerate(names):
            cls.refuse(flags[:, :, number] & present, f"{name} {reason}")

    @classmethod
    def check_lengths(cls, lists: Mapping[str, Padded]) -> None:
        first, wanted = next((name, column.lengths) for name, column in lists.items())
        for name, (values, lengths) in lists.items():
            most = tf.shape(values, tf.int64)[1]
            bad = (lengths < 0) | (lengths > most)
            cls.refuse(bad, f"{name} has the length ", lengths, " and is padded to ", most)
            if lengths is not wanted:
                bad = lengths != wanted
                cls.refuse(bad, f"{name} has ", lengths, f" values where {first} has ", wanted)


TENSORS = TfTensors()
