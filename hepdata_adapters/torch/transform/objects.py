"""Jagged branches that describe the same objects, as padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._decomp import register_decomposition
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hepdata_adapters.common.core.errors import BranchError
from hepdata_adapters.torch.transform.expressions import Padded


class Members(NamedTuple):
    """The objects of n events, padded to the width m of the first branch.

    values: by branch, ``(n, m)`` of the branch's dtype. present: ``(n, m)`` bool, false behind
    the length. lengths: ``(n,)`` int64. valid: ``(n,)`` bool, false where the branches differ in
    their number of objects, or have a length that their row cannot have.
    """

    values: dict[str, Tensor]
    present: Tensor
    lengths: Tensor
    valid: Tensor


def members(columns: Mapping[str, Tensor | Padded], branches: Sequence[str]) -> Members:
    """The branches that share a count; they may be padded to different widths.

    Raises BranchError for one that is not `Padded`.
    """
    first = padded(columns, branches[0])
    width = first.values.shape[1]
    others = [padded(columns, branch) for branch in branches[1:]]
    valid = first.lengths >= 0
    for size in distinct([width, *(column.values.shape[1] for column in others)]):
        valid = valid & (first.lengths <= size)
    # lists that share a count already come with one and the same tensor of lengths
    lengths = {id(c.lengths): c.lengths for c in others if c.lengths is not first.lengths}
    if lengths:
        given = torch.stack(list(lengths.values()), 1)
        valid = valid & none_of(given != first.lengths.unsqueeze(1))
    values = {
        branch: fitted(column.values, width)
        for branch, column in zip(branches, [first, *others], strict=True)
    }
    places = torch.arange(width, device=first.values.device)
    return Members(values, places < first.lengths.unsqueeze(1), first.lengths, valid)


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
