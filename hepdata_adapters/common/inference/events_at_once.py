"""Raw events to columns without a step of Python for each value, where nothing is wrong with any.

What is at all unusual is left to `raw_events`, which says of each event what is wrong with it. (256
events of 28 numbers: 0.9 ms, with their checks, instead of 6.6 ms value by value.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import (
    Column,
    Columns,
    Jagged,
    offsets_from_lengths,
)
from hepdata_adapters.common.files.preparation import RawBranch
from hepdata_adapters.common.transform.pipeline import Transform

_INTEGERS = frozenset({int})
_FLOATS = frozenset({int, float, type(None)})
_BOOLEANS = frozenset({bool, int, float})


def columns_at_once(events: Sequence[Any], transform: Transform) -> Columns | None:
    """The raw columns of events, of which each is good by itself; None where one may not be.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1),)))
    >>> columns_at_once([{"MET": 1.5}, {"MET": None}], transform)["MET"].tolist()
    [1.5, nan]
    >>> columns_at_once([{"MET": 1.5}, {"MET": True}], transform) is None
    True
    """
    if not set(map(type, events)) <= {dict}:
        return None
    by_dtype: dict[str, list[RawBranch]] = {}
    for branch in transform.branches:
        by_dtype.setdefault(branch.dtype, []).append(branch)
    found: Columns = {}
    for dtype, branches in by_dtype.items():
        try:
            values = [[event[branch.name] for event in events] for branch in branches]
        except KeyError:
            return None
        columns = _columns(branches, values, np.dtype(dtype))
        if columns is None:
            return None
        found |= columns
    return {branch.name: found[branch.name] for branch in transform.branches}


def _columns(
    branches: list[RawBranch], values: list[list[Any]], dtype: np.dtype[Any]
) -> Columns | None:
    """Columns of branches of one dtype, whose numbers are looked at together. values: of each."""
    numbers: list[list[Any]] = []
    lengths: list[NDArray[np.int64] | None] = []
    for branch, given in zip(branches, values, strict=True):
        if branch.kind == "flat":
            numbers.append(given)
            lengths.append(None)
            continue
        if not set(map(type, given)) <= {list}:
            return None
        own = np.fromiter(map(len, given), np.int64, len(given))
        if branch.kind == "array" and (own != branch.size).any():
            return None
        numbers.append(list(chain.from_iterable(given)))
        lengths.append(own)
    content = _numbers(list(chain.from_iterable(numbers)), dtype)
    if content is None:
        return None
    columns: Columns = {}
    done = 0
    for branch, own_lengths, given in zip(branches, lengths, numbers, strict=True):
        part = content[done : done + len(given)]
        done += len(given)
        columns[branch.name] = _column(branch, part, own_lengths)
    return columns


def _column(branch: RawBranch, numbers: NDArray[Any], lengths: NDArray[np.int64] | None) -> Column:
    if lengths is None:
        return numbers
    if branch.kind == "array":
        return numbers.reshape(len(lengths), branch.size)
    return Jagged(numbers, offsets_from_lengths(lengths))


def _numbers(values: list[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The numbers in a dtype, if it has them all; else None."""
    types = set(map(type, values))
    try:
        if dtype.kind in "iu":
            return np.array(values, dtype) if types <= _INTEGERS else None
        if not types <= (_FLOATS if dtype.kind == "f" else _BOOLEANS):
            return None
        numbers = np.array(values, np.float64)  # None becomes NaN
    except OverflowError:
        return None
    if dtype.kind == "f":
        too_large = np.isfinite(numbers) & (np.abs(numbers) > float(np.finfo(dtype).max))
    else:
        too_large = (numbers != 0) & (numbers != 1)
    return None if too_large.any() else numbers.astype(dtype)
