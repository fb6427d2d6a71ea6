"""Raw events as a client sends them (branch name to number or list) to columns, and back.

Used by every server. A fault in one event never touches another: faults are returned by event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdata_adapters.common.core.columns import Column, Columns, Jagged, take_all
from hepdata_adapters.common.core.errors import EventError, InvalidValueError, nearest
from hepdata_adapters.common.core.faults import first_reasons
from hepdata_adapters.common.files.preparation import RawBranch
from hepdata_adapters.common.inference.events_at_once import columns_at_once
from hepdata_adapters.common.transform.pipeline import Transform


def columns_from_events(
    events: Sequence[object], transform: Transform
) -> tuple[Columns, dict[int, str]]:
    """Raw columns of the good events, in order, and the reason for each bad one by its index.

    Numbers are cast to the dtype of the branch they stand for, so that an event read from a
    file and sent as JSON is the same event. ``null`` and NaN are the same: no value, which float
    branches alone may have. Branches that the transform does not use are ignored.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1),)))
    >>> columns, faults = columns_from_events([{"MET": 1.5}, {"met": 2.0}], transform)
    >>> columns["MET"].tolist(), faults
    ([1.5], {1: "branch 'MET' is missing; did you mean 'met'?"})
    """
    faults: dict[int, str] = {}
    kept = list(range(len(events)))
    columns = columns_at_once(events, transform)
    if columns is None:
        good: list[Mapping[str, Any]] = []
        kept = []
        for index, event in enumerate(events):
            try:
                good.append(_checked(event, transform))
                kept.append(index)
            except EventError as error:
                faults[index] = str(error)
        columns = {branch.name: _column(good, branch) for branch in transform.branches}
    for find in (_impossible, _refused):
        refused = find(columns, transform)
        if refused:
            faults |= {kept[row]: reason for row, reason in refused.items()}
            rows = np.setdiff1d(np.arange(len(kept)), list(refused))
            columns, kept = take_all(columns, rows), [kept[row] for row in rows]
    return columns, dict(sorted(faults.items()))


def _impossible(columns: Columns, transform: Transform) -> dict[int, str]:
    """The events that break a count which their files keep, by row, with the first reason."""
    return first_reasons(transform.preparation.count_faults(columns))


def _refused(columns: Columns, transform: Transform) -> dict[int, str]:
    """The events that the transform does not accept, by row, with the first reason."""
    try:
        prepared = transform.prepare(columns)
    except InvalidValueError as error:  # one event, maybe more: each half is asked again
        rows = np.arange(len(next(iter(columns.values()))))
        if len(rows) == 1:
            return {0: error.what}
        found: dict[int, str] = {}
        for half in np.array_split(rows, 2):
            reasons = _refused(take_all(columns, half), transform)
            found |= {int(half[row]): reason for row, reason in reasons.items()}
        return found
    return first_reasons(transform.faults(prepared))


def events_from_columns(columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """One dict an event, ready for JSON; NaN and infinity are kept as Python floats.

    >>> events_from_columns({"n": np.array([1, 2]), "pt": Jagged.from_lists([[3.0], []])})
    [{'n': 1, 'pt': [3.0]}, {'n': 2, 'pt': []}]
    """
    lists = {
        name: column.to_lists() if isinstance(column, Jagged) else column.tolist()
        for name, column in columns.items()
    }
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def without_nan(value: Any) -> Any:
    """The value with NaN and infinities as ``None``, which strict JSON can carry.

    >>> without_nan({"MET": float("nan"), "Jet_pt": [1.0, float("inf")]})
    {'MET': None, 'Jet_pt': [1.0, None]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def _checked(event: object, transform: Transform) -> dict[str, Any]:
    """The event with the branches of the transform only, values checked."""
    if not isinstance(event, Mapping):
        raise EventError(f"an event is an object of branches, not {_describe(event)}")
    checked: dict[str, Any] = {}
    for branch in transform.branches:
        if branch.name not in event:
            hint = nearest(branch.name, (str(key) for key in event))
            raise EventError(f"branch {branch.name!r} is missing{hint}")
        value = event[branch.name]
        if branch.kind == "flat":
            checked[branch.name] = _number(value, branch)
        elif not isinstance(value, list):
            raise EventError(f"branch {branch.name!r} takes a list, not {_describe(value)}")
        elif branch.kind == "array" and len(value) != branch.size:
            raise EventError(
                f"branch {branch.name!r} takes {branch.size} numbers, not {len(value)}"
            )
        else:
            checked[branch.name] = [_number(item, branch) for item in value]
    return checked


def _number(value: object, branch: RawBranch) -> float | int | bool:
    dtype = np.dtype(branch.dtype)
    if value is None and dtype.kind == "f":
        return math.nan
    if value is None and dtype.kind in "iu":
        raise EventError(f"branch {branch.name!r} takes integers, not null")
    if dtype.kind == "b":
        if value in (0, 1):
            return bool(value)
        raise EventError(f"branch {branch.name!r} takes true or false, not {_describe(value)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventError(f"branch {branch.name!r} takes numbers, not {_describe(value)}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if isinstance(value, float) and not value.is_integer():
            raise EventError(f"branch {branch.name!r} takes integers, not {_describe(value)}")
        if not limits.min <= value <= limits.max:
            raise EventError(f"branch {branch.name!r}: {value!r} is not in {dtype}'s range")
        return int(value)
    if (isinstance(value, int) or math.isfinite(value)) and abs(value) > float(np.finfo(dtype).max):
        raise EventError(f"branch {branch.name!r}: {value!r} is not in {dtype}'s range")
    return float(value)


def _describe(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    if value is None:
        return "null"
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return names.get(type(value), repr(value)[:40])


def _column(events: Sequence[Mapping[str, Any]], branch: RawBranch) -> Column:
    values = [event[branch.name] for event in events]
    if branch.kind == "jagged":
        return Jagged.from_lists(values, np.dtype(branch.dtype))
    shape = (len(values), branch.size) if branch.kind == "array" else (len(values),)
    return np.array(values, np.dtype(branch.dtype)).reshape(shape)
