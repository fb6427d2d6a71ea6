"""Jagged branches that describe the same objects, as padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hepdata_adapters.common.errors import BranchError
from hepdata_adapters.torch.expressions import Padded


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
    first = _padded(columns, branches[0])
    width = first.values.shape[1]
    valid = (first.lengths >= 0) & (first.lengths <= width)
    values: dict[str, Tensor] = {}
    for branch in branches:
        column = _padded(columns, branch)
        values[branch] = fitted(column.values, width)
        valid = (
            valid & (column.lengths == first.lengths) & (column.lengths <= column.values.shape[1])
        )
    places = torch.arange(width, device=first.values.device)
    return Members(values, places < first.lengths.unsqueeze(1), first.lengths, valid)


def fitted(values: Tensor, width: int) -> Tensor:
    """``(n, m, ...)`` cut, or padded with zeros, to ``(n, width, ...)``; in a graph for any m."""
    padding = [0, 0] * (values.ndim - 2) + [0, width]
    return torch.nn.functional.pad(values, padding).narrow(1, 0, width)


def none_of(flags: Tensor) -> Tensor:
    """Events without a set flag; a sum, because ONNX's maximum of no column is a set flag."""
    return flags.flatten(1).sum(1) == 0


def _padded(columns: Mapping[str, Tensor | Padded], branch: str) -> Padded:
    column = columns[branch]
    if isinstance(column, Tensor):
        raise BranchError(f"{branch} has no list of values in each event", branch=branch)
    return column
