"""Raw events as a client sends them (branch name to number or list) to columns, and back.

Used by every server. A fault in one event never touches another: faults are returned by event.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdata_adapters.common.columns import Column, Columns, Jagged
from hepdata_adapters.common.errors import EventError, nearest
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform


def columns_from_events(
    events: Sequence[object], transform: VectorTransform
) -> tuple[Columns, dict[int, str]]:
    """Columns of the good events, in order, and the reason for each bad one by its index.

    Numbers are cast to the dtype of the branch they stand for, so that an event read from a
    file and sent as JSON is the same event. ``null`` stands for NaN. Branches that the
    transform does not use are ignored.

    >>> transform = VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1),))
    >>> columns, faults = columns_from_events([{"MET": 1.5}, {"met": 2.0}], transform)
    >>> columns["MET"].tolist(), faults
    ([1.5], {1: "branch 'MET' is missing; did you mean 'met'?"})
    """
    faults: dict[int, str] = {}
    good: list[Mapping[str, Any]] = []
    kept: list[int] = []
    for index, event in enumerate(events):
        try:
            good.append(_checked(event, transform))
            kept.append(index)
        except EventError as error:
            faults[index] = str(error)
    columns = {feature.branch: _column(good, feature) for feature in transform.features}
    refused = {fault.row: fault.reason for fault in reversed(transform.faults(columns))}
    if refused:
        faults |= {kept[row]: reason for row, reason in refused.items()}
        good = [event for row, event in enumerate(good) if row not in refused]
        columns = {feature.branch: _column(good, feature) for feature in transform.features}
    return columns, dict(sorted(faults.items()))


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


def _checked(event: object, transform: VectorTransform) -> dict[str, Any]:
    """The event with the branches of the transform only, values checked."""
    if not isinstance(event, Mapping):
        raise EventError(f"an event is an object of branches, not {_describe(event)}")
    checked: dict[str, Any] = {}
    for feature in transform.features:
        if feature.branch not in event:
            hint = nearest(feature.branch, (str(key) for key in event))
            raise EventError(f"branch {feature.branch!r} is missing{hint}")
        value = event[feature.branch]
        if feature.kind == "flat":
            checked[feature.branch] = _number(value, feature)
        elif not isinstance(value, list):
            raise EventError(f"branch {feature.branch!r} takes a list, not {_describe(value)}")
        elif feature.kind == "array" and len(value) != feature.width:
            raise EventError(
                f"branch {feature.branch!r} takes {feature.width} numbers, not {len(value)}"
            )
        else:
            checked[feature.branch] = [_number(item, feature) for item in value]
    return checked


def _number(value: object, feature: FeatureTransform) -> float | int | bool:
    dtype = np.dtype(feature.dtype)
    if value is None:
        value = math.nan
    if dtype.kind == "b":
        if value in (0, 1):
            return bool(value)
        raise EventError(f"branch {feature.branch!r} takes true or false, not {_describe(value)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EventError(f"branch {feature.branch!r} takes numbers, not {_describe(value)}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if isinstance(value, float) and not value.is_integer():
            raise EventError(f"branch {feature.branch!r} takes integers, not {value!r}")
        if not limits.min <= value <= limits.max:
            raise EventError(f"branch {feature.branch!r}: {value!r} is not in {dtype}'s range")
        return int(value)
    if (isinstance(value, int) or math.isfinite(value)) and abs(value) > float(np.finfo(dtype).max):
        raise EventError(f"branch {feature.branch!r}: {value!r} is not in {dtype}'s range")
    return float(value)


def _describe(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), repr(value)[:40])


def _column(events: Sequence[Mapping[str, Any]], feature: FeatureTransform) -> Column:
    values = [event[feature.branch] for event in events]
    if feature.kind == "jagged":
        return Jagged.from_lists(values, np.dtype(feature.dtype))
    shape = (len(values), feature.width) if feature.kind == "array" else (len(values),)
    return np.array(values, np.dtype(feature.dtype)).reshape(shape)
