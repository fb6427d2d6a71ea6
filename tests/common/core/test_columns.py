"""Columns taken and joined all at once are those of one after the other, offsets shared or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import (
    Columns,
    Jagged,
    concatenate,
    concatenate_all,
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


def same(one: Columns, other: Columns) -> None:
    assert one.keys() == other.keys()
    for name, column in one.items():
        match = other[name]
        if isinstance(column, Jagged):
            assert isinstance(match, Jagged)
            assert column.to_lists() == match.to_lists()
            assert column.dtype == match.dtype
            assert column.offsets.tolist() == match.offsets.tolist()
        else:
            assert np.asarray(column).tolist() == np.asarray(match).tolist()


@given(parts=st.lists(LISTS, min_size=1, max_size=3), seed=st.integers(0, 9))
def test_all_at_once_is_one_after_the_other(parts: list[list[list[int]]], seed: int) -> None:
    plain = [columns_of(lists) for lists in parts]
    shared = [with_shared_offsets(columns) for columns in plain]
    for one, other in zip(plain, shared, strict=True):
        same(one, other)
    joined = concatenate_all(shared)
    same(joined, {name: concatenate([part[name] for part in plain]) for name in plain[0]})
    assert joined["pt"].offsets is joined["eta"].offsets  # type: ignore[union-attr]
    rows = np.random.default_rng(seed).integers(0, len(joined["flat"]), 7)
    taken = take_all(joined, rows)
    same(taken, {name: take(column, rows) for name, column in joined.items()})
    assert taken["pt"].offsets is taken["eta"].offsets  # type: ignore[union-attr]


def test_arrays_are_counted_once() -> None:
    columns = with_shared_offsets(columns_of([[1, 2], [3]]))
    assert held_bytes(columns) == 3 * 8 + 3 * 4 + 3 * 8 + 2 * 8 + 3 * 8 + 2 * 8
