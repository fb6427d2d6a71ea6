"""Objects selected and sorted, columns derived: `Preparation` in TensorFlow operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from hepdata_adapters.common.files.preparation import Preparation
from hepdata_adapters.common.files.shared_counts import SharedCount
from hepdata_adapters.common.transform.graph.selection import prepared
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.objects import TENSORS


def prepare(
    raw: Mapping[str, tf.Tensor | Padded], preparation: Preparation, names: Sequence[str]
) -> dict[str, tf.Tensor | Padded]:
    """Raw columns of n events to the prepared columns ``names``, as the `Preparation` does.

    Raises, when it runs, ``tf.errors.InvalidArgumentError`` where branches that should share a
    count do not.

    >>> from hepdata_adapters.common.files.preparation import (
    ...     DerivedColumn, ObjectGroup, RawBranch)
    >>> preparation = Preparation(
    ...     branches=(RawBranch(name="pt", kind="jagged", dtype="float32"),),
    ...     objects=(ObjectGroup(name="Jet", members=("pt",), sort_by="pt"),),
    ...     columns=(DerivedColumn(name="HT", expression="sum(pt)"),))
    >>> pt = Padded(tf.constant([[20.0, 30.0]]), tf.constant([2], tf.int64))
    >>> columns = prepare({"pt": pt}, preparation, ["pt", "HT"])
    >>> columns["pt"].values.numpy().tolist(), columns["HT"].numpy().tolist()
    ([[30.0, 20.0]], [50.0])
    """
    needed = preparation.restricted(names)
    for count in needed.counts:
        _check_count(count, raw)
    return prepared(TENSORS, raw, needed, needed.groups_of(names), names)


def _check_count(count: SharedCount, raw: Mapping[str, tf.Tensor | Padded]) -> None:
    """Refuse lengths and counts that no event of the files can have."""
    if not count.lists:
        for name in count.counts:
            given = _lengths(raw[name])
            TENSORS.refuse(given < 0, f"{name} is ", given, ": no count")
        return
    first, *others = count.lists
    wanted = _lengths(raw[first])
    for name in (*others, *count.counts):
        given = _lengths(raw[name])
        parts: tuple[Any, ...] = (f"{name} has ", given, f" values where {first} has ", wanted)
        if name in count.counts:
            parts = (f"{name} is ", given, f" where {first} has ", wanted, " values")
        TENSORS.refuse(given != wanted, *parts)


def _lengths(column: tf.Tensor | Padded) -> tf.Tensor:
    """``(n,)`` int64. A uint64 above the largest int64 is negative, and agrees with no length."""
    return tf.cast(column.lengths if isinstance(column, Padded) else column, tf.int64)
