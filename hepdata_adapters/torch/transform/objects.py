"""The primitives of representations in torch operations, those that torch.export and ONNX take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hepdata_adapters.common.core.errors import BranchError, ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.transform.graph.backend import TensorBackend
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.torch.transform.elementary import TorchMathematics
from hepdata_adapters.torch.transform.expressions import Padded, checked
from hepdata_adapters.torch.transform.search import last_not_above

_INDEXABLE = {
    torch.uint16: torch.int64, torch.uint32: torch.int64, torch.uint64: torch.float64,
}  # fmt: skip
"""Dtypes whose places torch cannot look up, and those that stand for them."""


def fitted(values: Tensor, width: int) -> Tensor:
    """``(n, m, ...)`` cut, or padded with zeros, to ``(n, width, ...)``; in a graph for any m."""
    if statically_known_true(values.shape[1] == width):
        return values
    padding = [0, 0] * (values.ndim - 2) + [0, width]
    return torch.nn.functional.pad(values, padding).narrow(1, 0, width)


def distinct(sizes: Sequence[int]) -> list[int]:
    """The sizes without those known to equal another; in a graph they are symbols."""
    found: list[int] = []
    for size in sizes:
        if not any(statically_known_true(size == other) for other in found):
            found.append(size)
    return found


def stacked(columns: Sequence[Tensor], dim: int) -> Tensor:
    """The columns ``(n,)`` or ``(n, m)``, of any dtypes, along a new ``dim``, as float64.

    In an exported graph one operation for all of them: with hundreds of branches, one or more for
    each would make the export take minutes.
    """
    if torch.compiler.is_exporting():
        joined: Tensor = side_by_side(columns, dim)
        return joined
    return _stacked(columns, dim)


@torch.library.custom_op("hepdata_adapters::side_by_side", mutates_args=())
def side_by_side(columns: Sequence[Tensor], dim: int) -> Tensor:
    """`stacked` as one operation; an export compares the symbolic shapes of all that is stacked."""
    return _stacked(columns, dim)


@side_by_side.register_fake
def _(columns: Sequence[Tensor], dim: int) -> Tensor:
    shape = list(columns[0].shape)
    shape.insert(dim, len(columns))
    return columns[0].new_empty(shape, dtype=torch.float64)


def _stacked(columns: Sequence[Tensor], dim: int) -> Tensor:
    places: dict[torch.dtype, list[int]] = {}
    for place, column in enumerate(columns):
        places.setdefault(column.dtype, []).append(place)
    # those of one dtype are joined before they are widened
    parts = [
        torch.stack([columns[place] for place in same], dim).to(torch.float64)
        for same in places.values()
    ]
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate(list(places.values())))
    return torch.cat(parts, dim).index_select(dim, torch.from_numpy(order).to(parts[0].device))


@register_decomposition(torch.ops.hepdata_adapters.side_by_side.default)
def _(columns: Sequence[Tensor], dim: int) -> Tensor:
    """For exporters that do not know the operation."""
    return torch.stack([column.to(torch.float64) for column in columns], dim)


def none_of(flags: Tensor) -> Tensor:
    """Events without a set flag; a sum, because ONNX's maximum of no column is a set flag."""
    return flags.flatten(1).sum(1) == 0


def padded(columns: Mapping[str, Tensor | Padded], branch: str) -> Padded:
    """The jagged column of a branch. Raises BranchError for one that is flat."""
    column = columns[branch]
    if isinstance(column, Tensor):
        raise BranchError(f"{branch} has no list of values in each event", branch=branch)
    return column


def check_float64(numbers: Tensor, does: str) -> None:
    """Raise ConfigError if the module that has these buffers was cast to another dtype."""
    # they are no Python floats, because an ONNX graph would round those to float32
    if numbers.dtype != torch.float64:
        raise ConfigError(
            f"{does} in float64 and was cast to {numbers.dtype}: cast the model behind it, not both"
        )


class TorchTensors(TensorBackend):
    """`TensorBackend` of one forward: a graph cannot raise for a value, so events are marked.

    valid: ``(n,)`` bool, false for those refused.
    """

    math = cast(Mathematics, TorchMathematics)
    padded = Padded
    stack, expand, fmod = torch.stack, torch.unsqueeze, torch.fmod
    fitted = staticmethod(fitted)
    cast = staticmethod(lambda values, dtype: values.to(getattr(torch, dtype)))
    width = staticmethod(lambda values: values.shape[1])
    places = staticmethod(lambda width, like: torch.arange(width, device=like.device))
    upwards = staticmethod(lambda values: torch.sort(values, dim=1, stable=True).indices)
    count = staticmethod(lambda flags: flags.sum(1))

    def __init__(self) -> None:
        self._good: list[Tensor] = []

    @property
    def valid(self) -> Tensor:
        return reduce(torch.logical_and, self._good)

    def require(self, good: Tensor) -> None:
        """Refuse the other events, ``(n,)``."""
        self._good.append(good)

    def refuse(self, flags: Tensor, *message: Any) -> None:
        self.require(none_of(flags) if flags.ndim > 1 else ~flags)

    def refuse_columns(self, flags: Tensor, present: Tensor, *_: Any) -> None:
        self.refuse(flags & present.unsqueeze(2))

    def check_lengths(self, lists: Mapping[str, Padded]) -> None:
        first, *others = lists.values()
        self.require(first.lengths >= 0)
        for size in distinct([column.values.shape[1] for column in lists.values()]):
            self.require(first.lengths <= size)
        # lists that share a count already come with one and the same tensor of lengths
        lengths = {id(c.lengths): c.lengths for c in others if c.lengths is not first.lengths}
        if lengths:
            given = torch.stack(list(lengths.values()), 1)
            self.refuse(given != first.lengths.unsqueeze(1))

    @staticmethod
    def gather(values: Tensor, places: Tensor) -> Tensor:
        return values.to(_INDEXABLE.get(values.dtype, values.dtype)).gather(1, places)

    @staticmethod
    def last_not_above(values: Tensor, edges: Tensor) -> Tensor:
        return last_not_above(values, edges, 0, len(edges) - 1)  # the last edge ends a bin

    @staticmethod
    def cell_sums(
        cell: Tensor, weights: Sequence[Tensor | None], inside: Tensor, image: ImageTransform
    ) -> Tensor:
        counted = torch.stack([inside.double() if w is None else w for w in weights], 1)
        counted = torch.where(inside.unsqueeze(1), counted, 0)
        zeros = counted.new_zeros(counted.shape[0], len(weights), image.cells)
        return zeros.scatter_add(2, cell.unsqueeze(1).expand(-1, len(weights), -1), counted)

    @staticmethod
    def images(sums: Tensor, image: ImageTransform) -> Tensor:
        found = sums.reshape(-1, len(image.channels), *image.bins)
        return found.movedim(1, -1) if image.channels_last else found

    def evaluate(self, expression: Expression, columns: Mapping[str, Any]) -> Tensor | Padded:
        value, valid = checked(expression, columns)
        self.require(valid)
        return value
