"""Branches that share a count in all files: no raw event may break what every event there keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from hepdata_adapters.common.core.columns import Column
from hepdata_adapters.common.core.faults import Fault
from hepdata_adapters.common.files.objects import jagged, uneven
from hepdata_adapters.common.files.schema import Branch, Schema


class SharedCount(BaseModel):
    """Jagged branches with one number of values in each event, and flat branches that are it.

    >>> from hepdata_adapters.common.core.columns import Jagged
    >>> jets = SharedCount(lists=("Jet_pt", "Jet_eta"), counts=("nJet",))
    >>> jets.faults({"nJet": np.array([2, -1]), "Jet_pt": Jagged.from_lists([[1, 2], []]),
    ...              "Jet_eta": Jagged.from_lists([[1], []])})
    [Fault(row=0, branch='Jet_eta', reason='Jet_eta has 1 values where Jet_pt has 2', \
kind='uneven'), \
Fault(row=1, branch='nJet', reason='nJet is -1 where Jet_pt has 0 values', kind='uneven')]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lists: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()

    def restricted(self, names: Iterable[str]) -> SharedCount | None:
        """The part of it that is about these branches; None if there is nothing to check."""
        names = set(names)
        lists = tuple(name for name in self.lists if name in names)
        counts = tuple(name for name in self.counts if name in names)
        return SharedCount(lists=lists, counts=counts) if len(lists) > 1 or counts else None

    def faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """The events whose raw columns break the rule, with what they have instead."""
        found = uneven(columns, self.lists) if self.lists else []
        for name in self.counts:
            given = np.asarray(columns[name])
            if not self.lists:
                negative = np.flatnonzero(given < 0)
                found += [
                    Fault(int(r), name, f"{name} is {given[r]}: no count", "uneven")
                    for r in negative
                ]
                continue
            first, lengths = self.lists[0], jagged(columns, self.lists[0]).lengths
            found += [
                Fault(
                    int(row),
                    name,
                    f"{name} is {given[row]} where {first} has {size} values",
                    "uneven",
                )
                for row, size in ((row, lengths[row]) for row in np.flatnonzero(given != lengths))
            ]
        return found


def shared_counts(schemas: Sequence[Schema], names: Sequence[str]) -> tuple[SharedCount, ...]:
    """What holds of these branches in all files.

    schemas: of the files, which have all of the branches.
    """
    groups: dict[tuple[str, ...], list[Branch]] = {}
    for name in names:
        counts = tuple(schema[name].count for schema in schemas)
        if all(counts):
            groups.setdefault(counts, []).append(schemas[0][name])
    found = (
        SharedCount(
            lists=tuple(branch.name for branch in group if branch.kind == "jagged"),
            counts=tuple(branch.name for branch in group if _is_count(branch)),
        )
        for group in groups.values()
    )
    return tuple(part for count in found if (part := count.restricted(names)))


def _is_count(branch: Branch) -> bool:
    return branch.kind == "flat" and np.dtype(branch.dtype).kind in "iu"
