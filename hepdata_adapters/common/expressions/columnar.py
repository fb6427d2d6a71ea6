"""Expressions on numpy columns: the reference that the graphs of torch and TensorFlow equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from hepdata_adapters.common.core.columns import Array, Column, Jagged, offsets_from_lengths, ranges
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.expressions.walk import NumberKind

_DTYPES: dict[NumberKind, Any] = {"b": np.bool_, "i": np.int64, "u": np.uint64, "f": np.float64}


class NumpyMathematics:
    """numpy's functions, under the names of `Mathematics`."""

    abs, sqrt, exp, expm1 = np.abs, np.sqrt, np.exp, np.expm1
    log, log1p, log2, log10 = np.log, np.log1p, np.log2, np.log10
    sin, cos, tan = np.sin, np.cos, np.tan
    asin, acos, atan, atan2 = np.arcsin, np.arccos, np.arctan, np.arctan2
    sinh, cosh, tanh = np.sinh, np.cosh, np.tanh
    asinh, acosh, atanh = np.arcsinh, np.arccosh, np.arctanh
    floor, ceil, round, sign = np.floor, np.ceil, np.rint, np.sign
    isnan, isfinite, where = np.isnan, np.isfinite, np.where
    mod, pow = np.mod, np.power
    logical_and, logical_or, logical_not = np.logical_and, np.logical_or, np.logical_not
    number = np.float64


class NumpyAlgebra:
    """Arrays ``(n,)`` and ``(n, k)``, and `Jagged`. columns: to name the branches in errors."""

    math = cast(Mathematics, NumpyMathematics)

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = columns

    def widened(self, column: Column) -> Column:
        if isinstance(column, Jagged):
            return Jagged(self.cast(column.content, self.kind(column.content)), column.offsets)
        return self.cast(column, self.kind(column))

    def kind(self, array: Array) -> NumberKind:
        if array.dtype == np.uint64:
            return "u"
        return {"b": "b", "f": "f"}.get(array.dtype.kind, "i")  # type: ignore[return-value]

    def cast(self, array: Any, kind: NumberKind) -> Array:
        return np.asarray(array).astype(_DTYPES[kind], copy=False)

    def has_lists(self, value: Column) -> bool:
        return isinstance(value, Jagged) or value.ndim == 2

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Callable[[Any], Any]]:
        lists = [value for value in values if _many(value)]
        if not lists:
            return list(values), lambda array: array
        first = _jagged(lists[0])
        for other in lists[1:]:
            self._check_lengths(first, _jagged(other))
        if any(isinstance(value, Jagged) for value in lists):
            return [_objects(value, first) for value in values], partial(_like, first)
        return [value[:, None] if _one(value) else value for value in values], np.asarray

    def total(self, value: Column) -> Array:
        return _reduced(np.add, _jagged(value), 0)

    def largest(self, value: Column) -> Array:
        return _reduced(np.maximum, _jagged(value), np.nan)

    def largest_place(self, value: Column) -> Array:
        lists = _jagged(value)
        best = _reduced(np.fmax, lists, np.nan)
        hit = lists.content == np.repeat(best, lists.lengths)
        nowhere = np.iinfo(np.int64).max
        places = np.where(hit, ranges(np.zeros(len(lists), np.int64), lists.lengths), nowhere)
        first = _reduced(np.minimum, Jagged(places, lists.offsets), nowhere)
        return np.where(first == nowhere, -1, first)

    def lengths(self, value: Column) -> Array:
        return _jagged(value).lengths

    def column(self, value: Column, place: int) -> Array | None:
        if isinstance(value, Jagged):
            return None
        width = value.shape[1]
        if not -width <= place < width:
            raise ConfigError(f"[{place}] is beyond an array branch of {width} values")
        return value[:, place]

    def at(self, value: Column, places: Any) -> Array:
        lists = _jagged(value)
        places = np.broadcast_to(places, len(lists))
        found = np.full(len(lists), np.nan)
        has = (places >= 0) & (places < lists.lengths)
        found[has] = lists.content[lists.offsets[:-1][has] + places[has]]
        return found

    def kept(self, value: Column, mask: Column) -> Jagged:
        lists, chosen = _jagged(value), _jagged(mask)
        self._check_lengths(lists, chosen)
        counts = _reduced(np.add, Jagged(chosen.content.astype(np.int64), chosen.offsets), 0)
        return Jagged(lists.content[chosen.content], offsets_from_lengths(counts))

    def _check_lengths(self, first: Jagged, other: Jagged) -> None:
        if np.array_equal(first.offsets, other.offsets):
            return
        row = int(np.argmax(first.lengths != other.lengths))
        one, two = (f"{self._described(v)} has {v.lengths[row]}" for v in (first, other))
        raise InvalidValueError(
            f"objects of one event belong together, but {one} values and {two}", row=row
        )

    def _described(self, lists: Jagged) -> str:
        """The first branch of these lengths."""
        for name, column in self._columns.items():
            if _many(column) and np.array_equal(_jagged(column).offsets, lists.offsets):
                return repr(name)
        return "a list of chosen objects"


def _many(value: Any) -> bool:
    return isinstance(value, Jagged) or (isinstance(value, np.ndarray) and value.ndim == 2)


def _one(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1


def _jagged(value: Column) -> Jagged:
    if isinstance(value, Jagged):
        return value
    n, width = value.shape
    return Jagged(value.reshape(-1), np.arange(n + 1, dtype=np.int64) * width)


def _objects(value: Any, like: Jagged) -> Any:
    if _many(value):
        return _jagged(value).content
    return np.repeat(value, like.lengths) if _one(value) else value


def _like(lists: Jagged, content: Array) -> Jagged:
    return Jagged(content, lists.offsets)


def _reduced(function: np.ufunc, lists: Jagged, empty: Any) -> Array:
    """``function`` over each list, ``empty`` where there is no object."""
    filled = lists.lengths > 0
    found = np.full(len(lists), empty, lists.content.dtype)
    if filled.any():
        found[filled] = function.reduceat(lists.content, lists.offsets[:-1][filled])
    return found
