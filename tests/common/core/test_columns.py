"""Events taken from columns, and columns joined, are as those of lists; offsets are shared."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import (
    Columns,
    Jagged,
    concatenate,
    concatenate_all,
    flattened,
    held_bytes,
    take,
    take_all,
    with_shared_offsets,
)

LISTS = st.lists(st.lists(st.integers(-9, 9), max_size=3), min_size=1, max_size=12)


def columns_of(lists: list[list[int]]) -> Columns:
    """Two branches of equal lengths, one of others, and a flat one."""
    return {
        "pt": Jagged.from_lists(lists),
        "eta": Jagged.from_lists([[-x for x in values] for values in lists], np.int32),
        "other": Jagged.from_lists([values[:1] for values in lists]),
        "flat": np.arange(len(lists)),
    }


def lists_of(columns: Columns) -> dict[str, list[Any]]:
    return {
        name: column.to_lists() if isinstance(column, Jagged) else column.tolist()
        for name, column in columns.items()
    }


@given(parts=st.lists(LISTS, min_size=1, max_size=3), seed=st.integers(0, 9))
def test_events_are_taken_and_joined_as_lists_would_be(
    parts: list[list[list[int]]], seed: int
) -> None:
    plain = [columns_of(lists) for lists in parts]
    shared = [with_shared_offsets(columns) for columns in plain]
    assert [lists_of(columns) for columns in shared] == [lists_of(columns) for columns in plain]
    names = plain[0].keys()
    expected = {n: [x for part in plain for x in lists_of(part)[n]] for n in names}
    joined = concatenate_all(shared)
    assert lists_of(joined) == expected
    assert {name: joined[name].dtype for name in names} == {n: plain[0][n].dtype for n in names}
    assert joined["pt"].offsets is joined["eta"].offsets  # type: ignore[union-attr]
    rows = np.random.default_rng(seed).integers(0, len(expected["flat"]), 7)
    taken = take_all(joined, rows)
    assert lists_of(taken) == {n: [values[row] for row in rows] for n, values in expected.items()}
    assert taken["pt"].offsets is taken["eta"].offsets  # type: ignore[union-attr]
    for name in names:
        assert lists_of({name: take(joined[name], rows)})[name] == lists_of(taken)[name]
        both = concatenate([part[name] for part in plain])
        assert lists_of({name: both})[name] == expected[name]


def test_whoever_gets_offsets_may_write_to_them() -> None:
    columns = with_shared_offsets(columns_of([[1, 2], [3]]))
    arrays = flattened({name: columns[name] for name in ("pt", "eta")})
    arrays["pt_offsets"][:] = 0
    assert arrays["eta_offsets"].tolist() == [0, 2, 3]


def test_arrays_are_counted_once() -> None:
    columns = with_shared_offsets(columns_of([[1, 2], [3]]))
    assert held_bytes(columns) == 3 * 8 + 3 * 4 + 3 * 8 + 2 * 8 + 3 * 8 + 2 * 8
