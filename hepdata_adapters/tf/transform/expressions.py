"""Expressions on tensors, inside a ``tf.function`` of any number of events and objects.

The numbers are those of numpy (`hepdata_adapters.common.expressions`); TensorFlow flushes numbers
below 2.2e-308 to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.expressions.walk import NumberKind, Walk

_DTYPES: dict[NumberKind, tf.DType] = {
    "b": tf.bool, "i": tf.int64, "u": tf.uint64, "f": tf.float64,
}  # fmt: skip


class Padded(NamedTuple):
    """A jagged column: ``values (n, m)`` and ``lengths (n,)`` int64.

    What stands behind an event's length is never looked at.
    """

    values: tf.Tensor
    lengths: tf.Tensor


@tf.autograph.experimental.do_not_convert
def evaluate(
    expression: Expression, columns: Mapping[str, tf.Tensor | Padded]
) -> tf.Tensor | Padded:
    """The value of each event ``(n,)``, or of each object: float64, int64, uint64 or bool.

    columns: of n events each, ``(n,)``, ``(n, k)`` with known k, or `Padded`. Raises ConfigError
    where the expression does not fit the kinds of its branches and, when it runs,
    ``tf.errors.InvalidArgumentError`` where lists of different lengths meet.

    >>> from hepdata_adapters.common.expressions import parse
    >>> jets = Padded(tf.constant([[30.0, 25.0], [9.0, math.nan]]), tf.constant([2, 1], tf.int64))
    >>> evaluate(parse("sum(Jet_pt)", {"Jet_pt"}), {"Jet_pt": jets}).numpy().tolist()
    [55.0, 9.0]
    """
    if not expression.names:
        raise ConfigError(f"{expression.text!r} is the same for all events: it names no branch")
    return Walk(_TfAlgebra(expression.text), columns, expression.text).value(expression.tree)


class TfMathematics:
    """TensorFlow's functions, under the names of `Mathematics`."""

    abs, sqrt, exp, expm1 = tf.abs, tf.sqrt, tf.exp, tf.math.expm1
    log, log1p = tf.math.log, tf.math.log1p
    sin, cos, tan, asin, acos, atan = tf.sin, tf.cos, tf.tan, tf.asin, tf.acos, tf.atan
    atan2 = tf.math.atan2
    sinh, cosh, tanh = tf.sinh, tf.cosh, tf.tanh
    asinh, acosh, atanh = tf.asinh, tf.acosh, tf.atanh
    floor, ceil, round, sign = tf.floor, tf.math.ceil, tf.round, tf.sign
    isnan, isfinite, where, pow = tf.math.is_nan, tf.math.is_finite, tf.where, tf.pow
    logical_and, logical_or = tf.logical_and, tf.logical_or
    logical_not = tf.logical_not

    @staticmethod
    def number(value: float) -> tf.Tensor:
        return tf.constant(value, tf.float64)

    @classmethod
    def log2(cls, x: tf.Tensor) -> tf.Tensor:
        return tf.math.log(x) / cls.number(math.log(2))

    @classmethod
    def log10(cls, x: tf.Tensor) -> tf.Tensor:
        return tf.math.log(x) / cls.number(math.log(10))

    @staticmethod
    def mod(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """The remainder with the sign of ``b``; of whole numbers by 0 it is 0, as in numpy."""
        if a.dtype == tf.float64:
            return tf.math.floormod(a, b)
        none = tf.equal(b, tf.zeros_like(b))
        found = tf.math.floormod(a, tf.where(none, tf.ones_like(b), b))
        return tf.where(none, tf.zeros_like(found), found)


class _TfAlgebra:
    math = cast(Mathematics, TfMathematics)

    def __init__(self, text: str) -> None:
        self._text = text

    def widened(self, column: Any) -> Any:
        if isinstance(column, Padded):
            values = self.widened(column.values)
            return Padded(values, tf.cast(column.lengths, tf.int64))
        return self.cast(column, self.kind(column))

    def kind(self, array: tf.Tensor) -> NumberKind:
        if array.dtype == tf.bool:
            return "b"
        if array.dtype == tf.uint64:
            return "u"
        return "f" if array.dtype.is_floating else "i"

    def cast(self, array: Any, kind: NumberKind) -> tf.Tensor:
        if isinstance(array, bool | int | float):
            return tf.constant(_PYTHON[kind](array), _DTYPES[kind])
        return tf.cast(array, _DTYPES[kind])

    def has_lists(self, value: Any) -> bool:
        return isinstance(value, Padded) or value.shape.rank == 2

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Callable[[Any], Any]]:
        padded = [value for value in values if isinstance(value, Padded)]
        if not padded:
            arrays = [value for value in values if _rank(value) == 2]
            _check_widths(arrays)
            return [_column(value) if arrays else value for value in values], lambda made: made
        first = padded[0]
        return (
            [self._beside(first, value) for value in values],
            lambda made: Padded(made, first.lengths),
        )

    def _beside(self, first: Padded, value: Any) -> Any:
        if not isinstance(value, Padded):
            if _rank(value) != 2:
                return _column(value)
            value = _padded(value)
        if value is first:
            return value.values
        equal = tf.debugging.assert_equal(
            value.lengths, first.lengths,
            f"expression {self._text!r}: objects of one event belong together, but there are "
            "lists of different lengths",
        )  # fmt: skip
        with tf.control_dependencies([equal] if equal is not None else []):
            return _widened_to(value.values, first.values)

    def total(self, value: Any) -> tf.Tensor:
        lists = _padded(value)
        return tf.reduce_sum(tf.where(_inside(lists), lists.values, tf.zeros_like(lists.values)), 1)

    def largest(self, value: Any) -> tf.Tensor:
        lists = _padded(value)
        inside = _inside(lists)
        unknown = tf.reduce_any(inside & tf.math.is_nan(lists.values), 1)
        real = inside & ~tf.math.is_nan(lists.values)
        return tf.where(unknown | (lists.lengths <= 0), _nan(), _largest_of(lists.values, real))

    def largest_place(self, value: Any) -> tf.Tensor:
        lists = _padded(value)
        real = _inside(lists) & ~tf.math.is_nan(lists.values)
        hit = real & (lists.values == _largest_of(lists.values, real)[:, tf.newaxis])
        nowhere = tf.constant(tf.int64.max, tf.int64)
        first = tf.reduce_min(tf.where(hit, _places(lists.values), nowhere), 1)
        return tf.where(first == nowhere, tf.constant(-1, tf.int64), first)

    def lengths(self, value: Any) -> tf.Tensor:
        return _padded(value).lengths

    def column(self, value: Any, place: int) -> tf.Tensor | None:
        if isinstance(value, Padded):
            return None
        width = value.shape[1]
        if not -width <= place < width:
            raise ConfigError(f"[{place}] is beyond an array branch of {width} values")
        return value[:, place]

    def at(self, value: Any, places: tf.Tensor) -> tf.Tensor:
        lists = _padded(value)
        wanted = places + tf.zeros_like(lists.lengths)
        has = (wanted >= 0) & (wanted < lists.lengths)
        # one more column, because there is no place in no column
        values = tf.pad(lists.values, [[0, 0], [0, 1]])
        found = tf.gather(values, tf.where(has, wanted, tf.zeros_like(wanted)), batch_dims=1)
        return tf.where(has, found, _nan())

    def kept(self, value: Any, mask: Any) -> Padded:
        lists = _padded(value)
        keep = self._beside(lists, _padded(mask)) & _inside(lists)
        places = _places(lists.values)
        width = tf.shape(lists.values, tf.int64)[1]
        order = tf.argsort(tf.where(keep, places, places + width), axis=1)
        kept = tf.gather(lists.values, order, batch_dims=1)
        return Padded(kept, tf.reduce_sum(tf.cast(keep, tf.int64), 1))


_PYTHON: dict[NumberKind, Callable[[Any], Any]] = {"b": bool, "i": int, "u": int, "f": float}


def _nan() -> tf.Tensor:
    return tf.constant(math.nan, tf.float64)


def _largest_of(values: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.where(real, values, tf.constant(-math.inf, tf.float64)), 1)


def _rank(value: Any) -> int | None:
    return None if isinstance(value, bool | int | float) else value.shape.rank


def _padded(value: Any) -> Padded:
    if isinstance(value, Padded):
        return value
    return Padded(value, tf.reduce_sum(tf.ones_like(value, tf.int64), 1))


def _places(values: tf.Tensor) -> tf.Tensor:
    """``(1, m)``: the place of each column."""
    return tf.range(tf.shape(values, tf.int64)[1])[tf.newaxis]


def _inside(lists: Padded) -> tf.Tensor:
    return _places(lists.values) < lists.lengths[:, tf.newaxis]


def _column(value: Any) -> Any:
    return value[:, tf.newaxis] if _rank(value) == 1 else value


def _widened_to(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """The first columns, as many as ``like`` has; each branch is padded to a width of its own."""
    width = tf.shape(like)[1]
    return tf.concat([values, tf.zeros_like(like, values.dtype)], 1)[:, :width]


def _check_widths(arrays: Sequence[tf.Tensor]) -> None:
    widths = {array.shape[1] for array in arrays}
    if len(widths) > 1:
        raise ConfigError(f"array branches of {sorted(widths)} values do not fit together")
