"""Expressions on tensors, in operations that torch.export and ONNX take.

The numbers are those of numpy (`hepdata_adapters.common.expressions`), but for uint64: torch has
no arithmetic of it, so that it is computed in float64 and only exact up to 2^53.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.expressions.walk import NumberKind, Walk
from hepdata_adapters.torch.transform.elementary import TorchMathematics

_DTYPES: dict[NumberKind, torch.dtype] = {
    "b": torch.bool, "i": torch.int64, "u": torch.float64, "f": torch.float64,
}  # fmt: skip


class Padded(NamedTuple):
    """A jagged column: ``values (n, m)`` and ``lengths (n,)`` int64.

    What stands behind an event's length is never looked at. A column with ``m = 0`` has no
    objects in any event.
    """

    values: Tensor
    lengths: Tensor


class Evaluated(NamedTuple):
    """value: ``(n,)``, ``(n, k)`` or `Padded`, float64, int64 or bool. valid: ``(n,)`` bool, false
    where lists of different lengths met, for which numpy raises; such a value means nothing.
    """

    value: Tensor | Padded
    valid: Tensor


def evaluate(expression: Expression, columns: Mapping[str, Tensor | Padded]) -> Tensor | Padded:
    """The value of each event ``(n,)``, or of each object. See `checked`.

    >>> from hepdata_adapters.common.expressions import parse
    >>> jets = Padded(torch.tensor([[30.0, 25.0], [9.0, torch.nan]]), torch.tensor([2, 1]))
    >>> evaluate(parse("sum(Jet_pt)", {"Jet_pt"}), {"Jet_pt": jets}).tolist()
    [55.0, 9.0]
    """
    return checked(expression, columns).value


def checked(expression: Expression, columns: Mapping[str, Tensor | Padded]) -> Evaluated:
    """The value, and which events it stands for.

    columns: of n events each, ``(n,)``, ``(n, k)`` or `Padded`. Raises ConfigError where the
    expression does not fit the kinds of its branches.
    """
    if not expression.names:
        raise ConfigError(f"{expression.text!r} is the same for all events: it names no branch")
    algebra = _TorchAlgebra()
    value = Walk(algebra, columns, expression.text).value(expression.tree)
    first = columns[min(expression.names)]
    lengths = first.lengths if isinstance(first, Padded) else first
    valid = torch.ones_like(lengths.reshape(lengths.shape[0], -1)[:, 0], dtype=torch.bool)
    for equal in algebra.equal_lengths:
        valid = valid & equal
    return Evaluated(value, valid)


class _TorchAlgebra:
    """equal_lengths: ``(n,)`` bool of each place where lists met."""

    math = cast(Mathematics, TorchMathematics)

    def __init__(self) -> None:
        self.equal_lengths: list[Tensor] = []

    def widened(self, column: Tensor | Padded) -> Tensor | Padded:
        if isinstance(column, Padded):
            values = column.values
            return Padded(self.cast(values, self.kind(values)), column.lengths.to(torch.int64))
        return self.cast(column, self.kind(column))

    def kind(self, array: Tensor) -> NumberKind:
        if array.dtype == torch.bool:
            return "b"
        return "f" if array.is_floating_point() or array.dtype == torch.uint64 else "i"

    def cast(self, array: Any, kind: NumberKind) -> Tensor:
        if isinstance(array, Tensor):
            return array.to(_DTYPES[kind])
        return torch.tensor(array, dtype=_DTYPES[kind])

    def has_lists(self, value: Tensor | Padded) -> bool:
        return isinstance(value, Padded) or value.ndim == 2

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Callable[[Any], Any]]:
        padded = [value for value in values if isinstance(value, Padded)]
        if not padded:
            several = any(isinstance(v, Tensor) and v.ndim == 2 for v in values)
            if several:
                _check_widths([v for v in values if isinstance(v, Tensor) and v.ndim == 2])
            return [_column(value) if several else value for value in values], lambda made: made
        first = padded[0]
        arrays = [self._beside(first, value) for value in values]
        return arrays, lambda made: Padded(made, first.lengths)

    def _beside(self, first: Padded, value: Any) -> Any:
        if not isinstance(value, Padded):
            if not (isinstance(value, Tensor) and value.ndim == 2):
                return _column(value)
            value = _padded(value)
        if value is first:
            return value.values
        if value.lengths is not first.lengths:
            self.equal_lengths.append(value.lengths == first.lengths)
        return _widened_to(value.values, first.values)

    def total(self, value: Tensor | Padded) -> Tensor:
        lists = _padded(value)
        return torch.where(_inside(lists), lists.values, 0).sum(1)

    def largest(self, value: Tensor | Padded) -> Tensor:
        lists = _padded(value)
        inside = _inside(lists)
        unknown = (inside & torch.isnan(lists.values)).sum(1) > 0
        found = _with_column(torch.where(inside, lists.values, -math.inf), -math.inf).amax(1)
        return torch.where(unknown | (lists.lengths <= 0), math.nan, found)

    def largest_place(self, value: Tensor | Padded) -> Tensor:
        lists = _padded(value)
        real = _inside(lists) & ~torch.isnan(lists.values)
        best = _with_column(torch.where(real, lists.values, -math.inf), -math.inf).amax(1)
        hit = real & (lists.values == best.unsqueeze(1))
        nowhere = 2**62
        first = _with_column(torch.where(hit, _places(lists.values), nowhere), nowhere).amin(1)
        return torch.where(first == nowhere, -1, first)

    def lengths(self, value: Tensor | Padded) -> Tensor:
        return _padded(value).lengths

    def column(self, value: Tensor | Padded, place: int) -> Tensor | None:
        if isinstance(value, Padded):
            return None
        width = value.shape[1]
        if not -width <= place < width:
            raise ConfigError(f"[{place}] is beyond an array branch of {width} values")
        return value[:, place]

    def at(self, value: Tensor | Padded, places: Tensor) -> Tensor:
        lists = _padded(value)
        wanted = places + torch.zeros_like(lists.lengths)
        has = (wanted >= 0) & (wanted < lists.lengths)
        values = _with_column(lists.values, math.nan)
        found = values.gather(1, torch.where(has, wanted, 0).unsqueeze(1)).squeeze(1)
        return torch.where(has, found, math.nan)

    def kept(self, value: Tensor | Padded, mask: Tensor | Padded) -> Padded:
        lists, chosen = _padded(value), _padded(mask)
        keep = self._beside(lists, chosen) & _inside(lists)
        counts = keep.to(torch.int64)
        width = lists.values.shape[1]
        # what is not kept goes to one more column, which is cut off
        target = torch.where(keep, counts.cumsum(1) - 1, width)
        moved = _with_column(torch.zeros_like(lists.values), 0).scatter(1, target, lists.values)
        return Padded(moved[:, :width], counts.sum(1))


def _padded(value: Tensor | Padded) -> Padded:
    if isinstance(value, Padded):
        return value
    return Padded(value, torch.ones_like(value, dtype=torch.int64).sum(1))


def _places(values: Tensor) -> Tensor:
    """``(1, m)``: the place of each column."""
    return torch.arange(values.shape[1], device=values.device).unsqueeze(0)


def _inside(lists: Padded) -> Tensor:
    return _places(lists.values) < lists.lengths.unsqueeze(1)


def _column(value: Any) -> Any:
    return value.unsqueeze(1) if isinstance(value, Tensor) and value.ndim == 1 else value


def _with_column(values: Tensor, neutral: float) -> Tensor:
    """One more column, because there is no largest of no column."""
    return torch.cat([values, torch.full_like(values[:, :1].sum(1, keepdim=True), neutral)], 1)


def _widened_to(values: Tensor, like: Tensor) -> Tensor:
    """The first columns, as many as ``like`` has; each branch is padded to a width of its own."""
    return torch.cat([values, torch.zeros_like(like, dtype=values.dtype)], 1)[:, : like.shape[1]]


def _check_widths(arrays: Sequence[Tensor]) -> None:
    widths = {array.shape[1] for array in arrays}
    if len(widths) > 1:
        raise ConfigError(f"array branches of {sorted(widths)} values do not fit together")
