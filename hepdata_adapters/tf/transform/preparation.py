"""Objects selected and sorted, columns derived: `Preparation` in TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.files.preparation import ObjectGroup, Preparation
from hepdata_adapters.common.files.shared_counts import SharedCount
from hepdata_adapters.tf.transform.expressions import Padded, evaluate
from hepdata_adapters.tf.transform.objects import Members, fitted, members, refuse_events

Columns = dict[str, tf.Tensor | Padded]


def prepare(
    raw: Mapping[str, tf.Tensor | Padded], preparation: Preparation, names: Sequence[str]
) -> Columns:
    """Raw columns of n events to the prepared columns ``names``, as the `Preparation` does.

    Raises, when it runs, ``tf.errors.InvalidArgumentError`` where branches that should share a
    count do not.

    >>> from hepdata_adapters.common.files.preparation import DerivedColumn, RawBranch
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
    columns: Columns = dict(raw)
    for count in needed.counts:
        _check_count(count, raw)
    for group in needed.groups_of(names):
        columns |= _selected(group, *needed.parsed_objects[group.name], raw)
    for name, expression in needed.parsed_columns.items():
        columns[name] = evaluate(expression, columns)
    return {name: columns[name] for name in names}


def _check_count(count: SharedCount, raw: Mapping[str, tf.Tensor | Padded]) -> None:
    """Refuse lengths and counts that no event of the files can have."""
    if not count.lists:
        for name in count.counts:
            given = _lengths(raw[name])
            refuse_events(given < 0, _reason(name, " is ", given, ": no count"))
        return
    first, *others = count.lists
    wanted = _lengths(raw[first])
    for name in others:
        given = _lengths(raw[name])
        reason = _reason(name, " has ", given, f" values where {first} has ", wanted)
        refuse_events(given != wanted, reason)
    for name in count.counts:
        given = _lengths(raw[name])
        reason = _reason(name, " is ", given, f" where {first} has ", wanted, " values")
        refuse_events(given != wanted, reason)


def _lengths(column: tf.Tensor | Padded) -> tf.Tensor:
    """``(n,)`` int64. A uint64 above the largest int64 is negative, and agrees with no length."""
    return tf.cast(column.lengths if isinstance(column, Padded) else column, tf.int64)


def _reason(*parts: str | tf.Tensor) -> Callable[[tf.Tensor], tuple[Any, ...]]:
    """The parts of a message, of tensors what they hold for an event."""
    return lambda row: tuple(
        part if isinstance(part, str) else tf.strings.as_string(part[row]) for part in parts
    )


def _selected(
    group: ObjectGroup,
    selection: Expression | None,
    key: Expression | None,
    raw: Mapping[str, tf.Tensor | Padded],
) -> Columns:
    """The members of a group with the objects that stay, in their order."""
    objects = members(raw, group.members)
    keep = objects.present
    if selection is not None:
        passed = _of_objects(selection, raw, objects)
        keep = keep & (passed != 0) & ~tf.math.is_nan(passed)
    if key is not None:
        ranks = _of_objects(key, raw, objects)
        order = _order(-ranks if group.descending else ranks, keep)
    else:
        order = _stable_order(tf.cast(~keep, tf.float64))
    lengths = tf.reduce_sum(tf.cast(keep, tf.int64), 1)
    return {
        name: Padded(tf.gather(values, order, batch_dims=1), lengths)
        for name, values in objects.values.items()
    }


def _of_objects(
    expression: Expression, raw: Mapping[str, tf.Tensor | Padded], objects: Members
) -> tf.Tensor:
    """Its value of each object, ``(n, m)`` float64."""
    found = evaluate(expression, raw)
    if not isinstance(found, Padded):
        raise ConfigError(f"{expression.text!r} has one value an event, not one for each object")
    refuse_events(
        found.lengths != objects.lengths,
        lambda row: (
            f"{expression.text} has ",
            tf.strings.as_string(found.lengths[row]),
            " values where there are ",
            tf.strings.as_string(objects.lengths[row]),
            " objects",
        ),
    )
    return tf.cast(fitted(found.values, tf.shape(objects.present)[1]), tf.float64)


def _order(ranks: tf.Tensor, keep: tf.Tensor) -> tf.Tensor:
    """Places of the objects: upwards, then those of NaN, then those that do not stay."""
    unordered = tf.math.is_nan(ranks)
    infinity = tf.constant(float("inf"), tf.float64)
    order = _stable_order(tf.where(unordered, infinity, ranks))
    later = tf.cast(unordered, tf.float64)
    last = tf.where(keep, later, tf.constant(2, tf.float64))
    return tf.gather(order, _stable_order(tf.gather(last, order, batch_dims=1)), batch_dims=1)


def _stable_order(values: tf.Tensor) -> tf.Tensor:
    """Places of the values of each row, upwards; equal ones stay in order."""
    return tf.argsort(values, axis=1, stable=True)
