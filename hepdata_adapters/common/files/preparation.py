"""From the branches of a file to the branches that the model's features are made of.

Objects of a jagged group are selected and sorted first; derived columns are computed from what
is left. The result is branches like any others, so that features, labels, weights, selections
and specs need not know. The same object travels inside every archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from hepdata_adapters.common.core.columns import (
    Column,
    Columns,
    Jagged,
    numeric_dtype,
    offsets_from_lengths,
)
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.core.faults import Fault, refuse
from hepdata_adapters.common.core.frozen_model import FrozenModel
from hepdata_adapters.common.expressions import Expression, parse
from hepdata_adapters.common.files.shared_counts import SharedCount


class RawBranch(FrozenModel):
    """A branch as it is in the file, and as a client sends it. size: values of an array."""

    name: str
    kind: Literal["flat", "array", "jagged"]
    dtype: Annotated[str, AfterValidator(numeric_dtype)]
    size: int = Field(default=1, ge=1)

    def no_events(self) -> Column:
        """Its column of no events."""
        none = np.zeros(0, self.dtype)
        if self.kind == "jagged":
            return Jagged(none, np.zeros(1, np.int64))
        return none.reshape(0, self.size) if self.kind == "array" else none


class ObjectGroup(FrozenModel):
    """Jagged branches that share a count, and which of their objects stay, in what order.

    selection, sort_by: expressions over branches of the file. Equal objects keep their order,
    those whose key is NaN come last.
    """

    name: str
    members: tuple[str, ...] = Field(min_length=1)
    selection: str | None = None
    sort_by: str | None = None
    descending: bool = True

    @property
    def expressions(self) -> tuple[str, ...]:
        """The texts of the selection and of the key."""
        return tuple(text for text in (self.selection, self.sort_by) if text is not None)


class DerivedColumn(FrozenModel):
    """A branch that is computed. expression: over branches and other derived columns."""

    name: str
    expression: str


READ, REMOVED = "#read", "#removed"
"""Behind the name of a member: how many objects the event had, and how many a cut removed."""


class Preparation(FrozenModel):
    """Raw columns to prepared ones. branches: all that it may be asked to read.

    columns: in an order in which each needs only those before it. counts: what the files prove
    of the lengths of the branches. Besides, ``Jet_pt#read`` and ``Jet_pt#removed`` count the
    objects of a member's group in each event, ``(n,)`` int64.

    >>> preparation = Preparation(
    ...     branches=(RawBranch(name="Jet_pt", kind="jagged", dtype="float32"),),
    ...     objects=(ObjectGroup(name="Jet", members=("Jet_pt",), selection="Jet_pt > 30",
    ...                          sort_by="Jet_pt"),),
    ...     columns=(DerivedColumn(name="HT", expression="sum(Jet_pt)"),))
    >>> jets = Jagged.from_lists([[40.0, 20.0, 50.0], [10.0]])
    >>> found = preparation({"Jet_pt": jets}, ["Jet_pt", "HT"])
    >>> found["Jet_pt"].to_lists(), found["HT"].tolist()
    ([[50.0, 40.0], []], [90.0, 0.0])
    """

    branches: tuple[RawBranch, ...] = ()
    objects: tuple[ObjectGroup, ...] = ()
    columns: tuple[DerivedColumn, ...] = ()
    counts: tuple[SharedCount, ...] = ()

    @model_validator(mode="after")
    def _readable(self) -> Preparation:
        try:
            _ = self.parsed_objects, self.parsed_columns
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @cached_property
    def parsed_objects(self) -> dict[str, tuple[Expression | None, Expression | None]]:
        """Selection and sort key of each group, by its name."""
        known = {branch.name for branch in self.branches}
        return {
            group.name: (
                parse(group.selection, known) if group.selection else None,
                parse(group.sort_by, known) if group.sort_by else None,
            )
            for group in self.objects
        }

    @cached_property
    def parsed_columns(self) -> dict[str, Expression]:
        """The expression of each derived column, by its name."""
        known = {branch.name for branch in self.branches}
        found: dict[str, Expression] = {}
        for column in self.columns:
            found[column.name] = parse(column.expression, known | found.keys())
        return found

    @cached_property
    def group_of(self) -> dict[str, ObjectGroup]:
        """The group of each branch that has one."""
        return {member: group for group in self.objects for member in group.members}

    def needs(self, names: Iterable[str]) -> tuple[str, ...]:
        """The branches of the file that the prepared columns ``names`` are made of."""
        found: dict[str, None] = {}
        for name in map(member_of, names):
            if name in self.parsed_columns:
                found |= dict.fromkeys(self.needs(sorted(self.parsed_columns[name].names)))
                continue
            found[name] = None
            if name in self.group_of:
                for expression in self.parsed_objects[self.group_of[name].name]:
                    found |= dict.fromkeys(sorted(expression.names) if expression else ())
        return tuple(found)

    def restricted(self, names: Iterable[str]) -> Preparation:
        """The part of it that the prepared columns ``names`` need, and nothing else."""
        names = tuple(names)
        raw = set(self.needs(names))
        wanted = self.made_of(names)
        objects = tuple(
            group.model_copy(update={"members": members})
            for group in self.objects
            if (members := tuple(name for name in group.members if name in raw))
        )
        return Preparation(
            branches=tuple(branch for branch in self.branches if branch.name in raw),
            objects=objects,
            columns=tuple(column for column in self.columns if column.name in wanted),
            counts=tuple(part for count in self.counts if (part := count.restricted(raw))),
        )

    def same_length(self, names: Iterable[str]) -> list[tuple[str, ...]]:
        """The jagged columns ``names`` in parts; those of one part agree in every valid event.

        They are the members of a group of objects, or share a count and are in no group. What
        nothing is known of is alone.
        """
        counting = {name: count.lists for count in self.counts for name in count.lists}
        parts: dict[object, list[str]] = {}
        for name in names:
            group = self.group_of.get(name)
            key = group.name if group else counting.get(name, (name,))
            parts.setdefault(key, []).append(name)
        return [tuple(part) for part in parts.values()]

    def count_faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """The raw events with lengths and counts that no event of the files can have."""
        return [fault for count in self.counts for fault in count.faults(columns)]

    def __call__(self, columns: Mapping[str, Column], names: Iterable[str]) -> Columns:
        """The prepared columns ``names`` of n events.

        Raises InvalidValueError where branches that should share a count do not; its ``row`` is
        the first such event.
        """
        names = tuple(names)
        for fault in self.count_faults(columns):
            refuse(fault)
        present = dict(columns)
        wanted = self.made_of(names)
        for group in self.groups_of(names):
            present |= self._selected(group, columns)
        for name, expression in self.parsed_columns.items():
            if name in wanted:
                present[name] = expression(present)
        for name in names:
            member = member_of(name)
            if name != member:
                read, kept = (_lengths(values[member]) for values in (columns, present))
                present[name] = read if name.endswith(READ) else read - kept
        return {name: present[name] for name in names}

    def groups_of(self, names: Iterable[str]) -> tuple[ObjectGroup, ...]:
        """The groups with the members that the columns ``names`` are made of.

        A branch that objects are only cut on is no member here: it need not agree with them.
        """
        wanted = self.made_of(names)
        return tuple(
            group.model_copy(update={"members": members})
            for group in self.objects
            if (members := tuple(name for name in group.members if name in wanted))
        )

    def made_of(self, names: Iterable[str]) -> set[str]:
        """These columns and all that they are computed from, cuts on objects left out."""
        found: set[str] = set()
        for name in map(member_of, names):
            found.add(name)
            if name in self.parsed_columns:
                found |= self.made_of(self.parsed_columns[name].names)
        return found

    def _selected(self, group: ObjectGroup, raw: Mapping[str, Column]) -> Columns:
        """The members of a group with the objects that stay, in their order."""
        members = group.members
        first = raw[members[0]]
        if not isinstance(first, Jagged):
            raise ConfigError(f"objects {group.name}: {members[0]} is not jagged")
        for name in members[1:]:
            same_lengths(members[0], first, name, raw[name])
        selection, key = self.parsed_objects[group.name]
        keep = np.ones(len(first.content), np.bool_)
        if selection is not None:
            passed = selection(raw)
            same_lengths(members[0], first, f"selection {selection.text!r}", passed)
            values = _content(passed)
            keep = values.astype(np.bool_) & (values == values)
        kept = np.flatnonzero(keep)
        before = offsets_from_lengths(keep)
        offsets = before[first.offsets]
        if key is not None:
            ranks = key(raw)
            same_lengths(members[0], first, f"key {key.text!r}", ranks)
            kept = kept[_sorted(_content(ranks)[kept], offsets, descending=group.descending)]
        return {name: Jagged(_content(raw[name])[kept], offsets) for name in members}


def member_of(name: str) -> str:
    """The branch whose objects are counted, or the branch itself.

    >>> member_of("Jet_pt#removed"), member_of("Jet_pt")
    ('Jet_pt', 'Jet_pt')
    """
    return name.removesuffix(READ).removesuffix(REMOVED)


def _lengths(column: Column) -> NDArray[np.int64]:
    return column.lengths if isinstance(column, Jagged) else np.ones(len(column), np.int64)


def same_lengths(first: str, column: Jagged, second: str, other: Column) -> None:
    """Raise InvalidValueError, with the first ``row``, where two jagged columns differ in length.

    ConfigError where the second is not jagged at all.
    """
    if not isinstance(other, Jagged):
        raise ConfigError(f"{second} has one value an event, {first} has one for each object")
    if not np.array_equal(column.offsets, other.offsets):
        row = int(np.flatnonzero(column.lengths != other.lengths)[0])
        raise InvalidValueError(
            f"{first} has {column.lengths[row]} values and {second} {other.lengths[row]}",
            branch=second,
            row=row,
        )


def _content(column: Column) -> NDArray[np.generic]:
    return column.content if isinstance(column, Jagged) else column


def _sorted(
    key: NDArray[np.generic], offsets: NDArray[np.int64], *, descending: bool
) -> NDArray[np.int64]:
    """The order of all objects, event by event; stable, NaN last."""
    values = key.astype(np.float64)
    event = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    found: NDArray[np.int64] = np.lexsort((-values if descending else values, event))
    return found
