"""The summary of a part, unit by unit; the branches of a unit are shared by threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial

import numpy as np

from hepdata_adapters.common.core.columns import Column, Columns
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.core.threads import shared_out
from hepdata_adapters.common.events.selection import DROPPED, refused_events
from hepdata_adapters.common.events.split import SPLITS
from hepdata_adapters.common.events.unit_events import Unit, UnitEvents
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.specs.census import Census, added, census_of, class_names
from hepdata_adapters.common.specs.identities import Identities, identities_of
from hepdata_adapters.common.specs.merge import ALL
from hepdata_adapters.common.specs.missing import missing_events, summed
from hepdata_adapters.common.specs.model import ClassStatistics
from hepdata_adapters.common.specs.parts import Part, Summary
from hepdata_adapters.common.specs.separation import Drawn
from hepdata_adapters.common.specs.sums import BranchSums, Events
from hepdata_adapters.common.specs.units_ahead import ahead, memory_of, units_of

Task = Callable[[], int | DataError]
"""What is to be done for a branch of a unit; an error is returned, so that the first is raised."""
Progress = Callable[[int], None]
"""Called with the entries of each unit done."""


class PartSums:
    """What is learnt of a part while its units come, in order."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._counts: list[tuple[int, ...]] = []
        self._refused = [0] * len(part.layout.drops)
        self._census: Census = {}
        self._identities = Identities()
        self._missing: dict[str, int] = {}
        self._drawn = Drawn(part.layout.columns, int(part.chosen.sum()))
        self._events: dict[str, int] = {}
        self._sums: dict[str, list[BranchSums]] = {}

    def add(self, unit: Unit, chosen: bool, threads: int = 1) -> None:
        """Add a unit. chosen: its values count, not only its events.

        Raises DataError for values that are too large to be summarised.
        """
        part, columns, layout = self._part, unit.columns, self._part.layout
        events = UnitEvents(unit, part.config, layout)
        codes, sample = events.codes, events.sample
        left_out = [DROPPED - number for number in range(len(layout.drops))]
        selected, trained = events.of(None), events.of("train")
        names = class_names(sample, layout.task, columns, selected.rows)
        self._counts.append(
            tuple(int((codes == code).sum()) for code in [*range(len(SPLITS)), *left_out])
        )
        refused = refused_events(layout, codes, columns)
        self._refused = [one + more for one, more in zip(self._refused, refused, strict=True)]
        found = census_of(names, sample, columns, selected.rows, codes[selected.rows])
        self._census = added(self._census, found)
        if part.identity:
            seen = identities_of(
                part.identity, columns, selected.rows, codes, part.limit,
                layout.columns if chosen else (),
            )  # fmt: skip
            self._identities = self._identities.joined(seen)
        if not chosen:
            return
        if layout.task in ("binary", "multiclass"):
            of_train = names[codes[selected.rows] == SPLITS.index("train")]
            for name in np.unique(of_train).tolist():
                self._drawn.add(name, columns, trained.rows[of_train == name])
        tasks: list[Task] = [
            partial(missing_events, columns[name], selected.rows) for name in layout.columns
        ]
        tasks += self._additions(columns, self._classes(trained))
        results = []
        for result in shared_out(lambda task: task(), tasks, threads):
            if isinstance(result, DataError):
                raise result
            results.append(result)
        missing = zip(layout.columns, results, strict=False)
        self._missing = summed(self._missing, {name: events for name, events in missing if events})

    def summary(self) -> Summary:
        """That of all units that were added."""
        names = [branch.name for branch in self._part.branches]
        classes = {
            label: ClassStatistics(
                events=self._events[label],
                branches=dict(zip(names, (one.statistics() for one in sums), strict=True)),
            )
            for label, sums in self._sums.items()
        }
        return Summary(
            counts=tuple(self._counts),
            refused=tuple(self._refused),
            classes=classes,
            missing=self._missing,
            census=self._census,
            identities=self._identities,
            shapes=self._drawn.shapes(),
        )

    def _classes(self, events: UnitEvents) -> dict[str, Events]:
        """The training events of each class, or all under `ALL`."""
        config, rows = self._part.config, events.rows
        if config.statistics == "weights":
            return {ALL: Events(rows, np.abs(events.weights))}
        if config.statistics == "classes" and self._part.layout.task:
            labels = events.labels
            return {str(one): Events(rows[labels == one]) for one in np.unique(labels).tolist()}
        return {ALL: Events(rows)}

    def _additions(self, columns: Columns, classes: dict[str, Events]) -> list[Task]:
        """What adds the values of a unit, a function for each class and branch."""
        part = self._part
        weighted = part.config.statistics == "weights"
        tasks: list[Task] = []
        for label, events in classes.items():
            if label not in self._sums:
                self._sums[label] = [BranchSums(branch, weighted) for branch in part.branches]
            self._events[label] = self._events.get(label, 0) + len(events.rows)
            tasks += (
                partial(_add, sums, columns[sums.branch.name], events, part.file)
                for sums in self._sums[label]
            )
        return tasks


def _add(sums: BranchSums, column: Column, events: Events, file: FileInfo) -> int:
    try:
        return sums.add(column, events)
    except OverflowError as error:
        raise DataError(
            str(error), file=file.url, tree=file.tree, branch=sums.branch.name
        ) from None


def summaries_here(
    parts: Iterable[Part], threads: int, progress: Progress | None = None
) -> Iterator[tuple[Part, Summary]]:
    """Each part with its summary, in order, by so many threads of this process.

    With more than one, the next unit is read meanwhile. Raises the errors of reading, and
    DataError for values too large to be summarised, or where the memory runs out.
    """
    units = units_of(parts, threads)
    with closing(ahead(units) if threads > 1 else units) as read:
        sums: PartSums | None = None
        for found in read:
            part, number, unit = found
            sums = PartSums(part) if sums is None else sums
            with memory_of(part, number):
                sums.add(unit, found.chosen, threads)
            if progress:
                progress(unit.size)
            del unit
            if found.last:
                yield part, sums.summary()
                sums = None


def summary_of(part: Part, threads: int = 1) -> Summary:
    """The summary of a whole part. Raises the errors of `summaries_here`."""
    ((_, summary),) = summaries_here([part], threads)
    return summary
