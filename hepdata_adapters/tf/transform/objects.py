"""Jagged branches that describe the same objects, as padded tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from hepdata_adapters.common.core.errors import BranchError
from hepdata_adapters.tf.transform.expressions import Padded


class Members(NamedTuple):
    """The objects of n events, padded to the width m of the first branch.

    values: by branch, ``(n, m)`` of the branch's dtype. present: ``(n, m)`` bool, false behind
    the length. lengths: ``(n,)`` int64.
    """

    values: dict[str, tf.Tensor]
    present: tf.Tensor
    lengths: tf.Tensor


def members(columns: Mapping[str, tf.Tensor | Padded], branches: Sequence[str]) -> Members:
    """The branches that share a count; they may be padded to different widths.

    Raises BranchError for one that is not `Padded` and, when it runs,
    ``tf.errors.InvalidArgumentError`` where the branches differ in their number of objects, or
    have a length that their row cannot have.
    """
    values: dict[str, tf.Tensor] = {}
    first = _padded(columns, branches[0])
    width = tf.shape(first.values)[1]
    for branch in branches:
        column = _padded(columns, branch)
        _check_lengths(branch, column)
        _check_same(branch, column.lengths, branches[0], first.lengths)
        values[branch] = fitted(column.values, width)
    places = tf.range(tf.cast(width, tf.int64))
    return Members(values, places < first.lengths[:, tf.newaxis], first.lengths)


def _check_lengths(branch: str, column: Padded) -> None:
    most = tf.shape(column.values, tf.int64)[1]
    refuse_events(
        (column.lengths < 0) | (column.lengths > most),
        lambda row: (
            f"{branch} has the length ",
            tf.strings.as_string(column.lengths[row]),
            " and is padded to ",
            tf.strings.as_string(most),
        ),
    )


def _check_same(branch: str, lengths: tf.Tensor, first: str, wanted: tf.Tensor) -> None:
    refuse_events(
        lengths != wanted,
        lambda row: (
            f"{branch} has ",
            tf.strings.as_string(lengths[row]),
            f" values where {first} has ",
            tf.strings.as_string(wanted[row]),
        ),
    )


def fitted(values: tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
    """``(n, m, ...)`` cut, or padded with zeros, to ``(n, width, ...)``."""
    kept = values[:, :width]
    missing = [[0, 0], [0, width - tf.shape(kept)[1]], *[[0, 0]] * (values.shape.rank - 2)]
    return tf.pad(kept, missing)


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


def _padded(columns: Mapping[str, tf.Tensor | Padded], branch: str) -> Padded:
    column = columns[branch]
    if not isinstance(column, Padded):
        raise BranchError(f"{branch} has no list of values in each event", branch=branch)
    return column
