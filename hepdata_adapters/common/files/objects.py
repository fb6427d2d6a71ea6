"""Jagged branches that describe the same objects: one number of values in each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import (
    Array,
    Column,
    Columns,
    Jagged,
    offsets_from_lengths,
    take_all,
)
from hepdata_adapters.common.core.errors import BranchError
from hepdata_adapters.common.core.faults import Fault, refuse


def jagged(columns: Mapping[str, Column], branch: str) -> Jagged:
    """The column of this branch. Raises BranchError where it has no list of values an event."""
    column = columns[branch]
    if not isinstance(column, Jagged):
        raise BranchError(f"{branch} has no list of values in each event", branch=branch)
    return column


def object_offsets(columns: Mapping[str, Column], branches: Sequence[str]) -> NDArray[np.int64]:
    """The offsets ``(n + 1,)`` that all these branches share.

    Raises InvalidValueError naming two branches and the first event in which they differ.
    """
    for fault in uneven(columns, branches):
        refuse(fault)
    return jagged(columns, branches[0]).offsets


def uneven(columns: Mapping[str, Column], branches: Sequence[str]) -> list[Fault]:
    """Events in which a branch has another number of values than the first one.

    >>> uneven({"pt": Jagged.from_lists([[1], [2]]), "eta": Jagged.from_lists([[1], []])},
    ...        ["pt", "eta"])
    [Fault(row=1, branch='eta', reason='eta has 0 values where pt has 1', kind='uneven')]
    """
    first = jagged(columns, branches[0])
    found: list[Fault] = []
    for branch in branches[1:]:
        other = jagged(columns, branch)
        if other.offsets is first.offsets or np.array_equal(other.offsets, first.offsets):
            continue
        wanted, lengths = first.lengths, other.lengths
        found += [
            Fault(
                int(row),
                branch,
                f"{branch} has {lengths[row]} values where {branches[0]} has {wanted[row]}",
                "uneven",
            )
            for row in np.flatnonzero(lengths != wanted)
        ]
    return found


def faults_of_objects(
    columns: Mapping[str, Column],
    branches: Sequence[str],
    find: Callable[[Columns], list[Fault]],
) -> list[Fault]:
    """`uneven`, and what ``find`` finds in the events whose branches agree."""
    wanted = {branch: columns[branch] for branch in branches}
    found = uneven(wanted, branches)
    if not found:
        return find(wanted)
    agree = np.setdiff1d(np.arange(len(wanted[branches[0]])), [fault.row for fault in found])
    return found + [
        fault._replace(row=int(agree[fault.row])) for fault in find(take_all(wanted, agree))
    ]


def rows_of_objects(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The event of each object.

    >>> rows_of_objects(np.array([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def count_objects(flags: Array, offsets: NDArray[np.int64]) -> NDArray[np.int32]:
    """Flags set in each event, ``(n,)``.

    >>> count_objects(np.array([True, True, False]), np.array([0, 2, 2, 3])).tolist()
    [2, 0, 0]
    """
    if not flags.any():
        return np.zeros(len(offsets) - 1, np.int32)
    before = offsets_from_lengths(flags)
    return (before[offsets[1:]] - before[offsets[:-1]]).astype(np.int32)
