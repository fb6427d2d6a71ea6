"""Jagged branches that describe the same objects, as padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hepdata_adapters.common.core.errors import BranchError
from hepdata_adapters.common.transform.graph.backend import TensorBackend


class Members(NamedTuple):
    """The objects of n events, padded to the width m of the first branch.

    values: by branch, ``(n, m)`` of the branch's dtype. present: ``(n, m)`` bool, false behind
    the length. lengths: ``(n,)`` int64.
    """

    values: dict[str, Any]
    present: Any
    lengths: Any


def members(backend: TensorBackend, columns: Mapping[str, Any], branches: Sequence[str]) -> Members:
    """The branches that share a count; they may be padded to different widths.

    Raises BranchError for one that is not jagged.
    """
    for branch in branches:
        if not isinstance(columns[branch], backend.padded):
            raise BranchError(f"{branch} has no list of values in each event", branch=branch)
    backend.check_lengths({branch: columns[branch] for branch in branches})
    first = columns[branches[0]]
    width = backend.width(first.values)
    return Members(
        {branch: backend.fitted(columns[branch].values, width) for branch in branches},
        backend.places(width, first.values) < backend.expand(first.lengths, 1),
        first.lengths,
    )
