"""Parts of the specs pass: runs of units of one file, each summarised on its own.

The parts are the same however many processes share them, and they are merged in their order:
that is why the result does not depend on who computed what, or when.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.columns import Columns, take
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.core.hashing import key
from hepdata_adapters.common.events.identity import identity_branches
from hepdata_adapters.common.events.layout import Layout, manifest_branch
from hepdata_adapters.common.events.selection import DROPPED, deciding_branches, refused_events
from hepdata_adapters.common.events.split import SPLITS, strategy
from hepdata_adapters.common.events.targets import target_branches
from hepdata_adapters.common.events.unit_events import Unit, UnitEvents, read_unit
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.specs.census import Census, added, census_of, class_names
from hepdata_adapters.common.specs.identities import Identities, identities_of, sample_limit
from hepdata_adapters.common.specs.merge import ALL, merged_classes
from hepdata_adapters.common.specs.missing import missing_events, summed
from hepdata_adapters.common.specs.model import ClassStatistics
from hepdata_adapters.common.specs.separation import Drawn, Shapes, merged_shapes
from hepdata_adapters.common.specs.statistics import summarize

PART_ENTRIES = 2**18


@dataclass(frozen=True, eq=False)
class Part:
    """Units ``first`` to ``stop`` of a file, and what to learn from them.

    number: of the file in the manifest. branches: those to summarise. chosen: ``(stop - first,)``
    bool, the units whose values are read; in the others events are only counted. identity: the
    branches that tell events apart. limit: of the hashes of identities that are kept.
    """

    config: DatasetConfig
    layout: Layout
    number: int
    file: FileInfo
    branches: tuple[Branch, ...]
    first: int
    stop: int
    chosen: NDArray[np.bool_]
    identity: tuple[str, ...] = ()
    limit: int = 0

    @property
    def entries(self) -> int:
        return int(self.file.units[self.stop] - self.file.units[self.first])


class Summary(BaseModel):
    """What a part gave: small, and JSON between processes.

    counts: events of each split in each unit, then those that each of the layout's drops leaves
    out, ``(units, splits + drops)``. refused: events that each drop would leave out, whichever
    comes first. classes: statistics by label, or under `ALL`. missing: events with NaN or infinity
    in a branch, of all splits. census, identities: see there. shapes: of the features by class,
    see `separation`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[tuple[int, ...], ...]
    refused: tuple[int, ...] = ()
    classes: dict[str, ClassStatistics] = {}
    missing: dict[str, int] = {}
    census: Census = {}
    identities: Identities = Identities()
    shapes: Shapes = {}


def parts_of(
    config: DatasetConfig,
    manifest: Manifest,
    layout: Layout,
    fraction: float = 1.0,
    entries: int = PART_ENTRIES,
) -> Iterator[Part]:
    """The parts of all files in order, of about ``entries`` entries; an empty file has none.

    fraction: about this part of the units is chosen, see `chosen_units`.
    """
    # a part is sent to another process: not with the names of all files
    small = config.model_copy(
        update={"samples": tuple(s.model_copy(update={"files": (s.name,)}) for s in config.samples)}
    )
    identity = census_identity(config, manifest, layout)
    limit = sample_limit(manifest.entries)
    seed = strategy(config.split).seed
    for number, file in enumerate(manifest.files):
        branches = tuple(file_branches(config, manifest, layout, file))
        chosen = chosen_units(file, fraction, seed)
        pieces = min(len(chosen), math.ceil(file.entries / entries))
        for piece in range(pieces):
            first, stop = (len(chosen) * edge // pieces for edge in (piece, piece + 1))
            yield Part(
                small, layout, number, file, branches, first, stop, chosen[first:stop], identity,
                limit,
            )  # fmt: skip


def census_identity(config: DatasetConfig, manifest: Manifest, layout: Layout) -> tuple[str, ...]:
    """The branches that tell events apart, whatever decides their split; none for entry numbers."""
    if strategy(config.split).identity is not None:
        return layout.identity
    return identity_branches("auto", manifest)


def chosen_units(file: FileInfo, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which units of a file to read for a fraction of all, ``(units,)``.

    A hash of the file's UUID, the tree, the unit and the seed decides: the same unit is in or
    out wherever it is asked, so that specs of a fraction merge like any others.
    """
    units = len(file.units) - 1
    drawn = (key("fraction", seed, file.uuid, file.tree, unit) * 2.0**-64 for unit in range(units))
    return np.fromiter((number < fraction for number in drawn), np.bool_, units)


def file_branches(
    config: DatasetConfig, manifest: Manifest, layout: Layout, file: FileInfo
) -> list[Branch]:
    """The branches to summarise in one file: features, and the label and weight it uses."""
    own = set(target_branches(config.samples[file.sample]))
    features = set(layout.columns)
    return [
        file.branch(name) if name in features else manifest_branch(manifest, config, name)
        for name in layout.statistics
        if name in features or name in own
    ]


def summaries(part: Part, drawn: Drawn | None = None) -> Iterator[Summary]:
    """The summary of each unit of a part, in order. drawn: gets values of each class."""
    sample = part.config.samples[part.file.sample]
    deciding = deciding_branches(part.layout, part.file.sample)
    few_names = [*deciding, *part.identity, *target_branches(sample)]
    names = [*(branch.name for branch in part.branches), *few_names]
    with Source(names) as full, Source(few_names) as few:
        for number, chosen in zip(range(part.first, part.stop), part.chosen.tolist(), strict=True):
            source = full if chosen else few
            # a file of which nothing is needed is not opened
            yield _summary(
                part,
                read_unit(source if source.branches else None, part.file, number),
                chosen,
                drawn,
            )


def joined(one: Summary, other: Summary, file: str | None = None) -> Summary:
    """The summary of two stretches of units that follow each other, the second of ``file``."""
    return Summary(
        counts=one.counts + other.counts,
        refused=tuple(
            first + second for first, second in zip_longest(one.refused, other.refused, fillvalue=0)
        ),
        classes=merged_classes(one.classes, other.classes, file),
        missing=summed(one.missing, other.missing),
        census=added(one.census, other.census),
        identities=one.identities.joined(other.identities),
        shapes=merged_shapes(one.shapes, other.shapes),
    )


def summary_of(part: Part, progress: Callable[[int], None] | None = None) -> Summary:
    """The summary of a whole part. progress: called with the entries of each unit done.

    Raises the errors of reading, and DataError for values too large to be summarised.
    """
    whole = Summary(counts=())
    drawn = Drawn(part.layout.columns, int(part.chosen.sum()))
    unit = part.first
    try:
        for unit, summary in enumerate(summaries(part, drawn), part.first):
            whole = joined(whole, summary, part.file.url)
            if progress:
                progress(int(part.file.units[unit + 1] - part.file.units[unit]))
    except MemoryError as error:
        first, stop = part.file.units[[unit, min(unit + 2, part.stop)]].tolist()
        raise DataError(
            "the memory ran out while these entries were summarised: exclude the longest branches, "
            "use fewer processes, or leave such events out with a selection",
            file=part.file.url, tree=part.file.tree, entries=(first, stop),
        ) from error  # fmt: skip
    return whole.model_copy(update={"shapes": drawn.shapes()})


def _summary(part: Part, unit: Unit, chosen: bool, drawn: Drawn | None) -> Summary:
    layout, columns = part.layout, unit.columns
    events = UnitEvents(unit, part.config, layout)
    codes, sample = events.codes, events.sample
    left_out = [DROPPED - number for number in range(len(layout.drops))]
    selected, trained = events.of(None), events.of("train")
    names = class_names(sample, layout.task, columns, selected.rows)
    counted = Summary(
        counts=(tuple(int((codes == code).sum()) for code in [*range(len(SPLITS)), *left_out]),),
        refused=tuple(refused_events(layout, codes, columns)),
        census=census_of(names, sample, columns, selected.rows, codes[selected.rows]),
        identities=identities_of(
            part.identity, columns, selected.rows, codes, part.limit,
            layout.columns if chosen else (),
        ) if part.identity else Identities(),
    )  # fmt: skip
    if not chosen:
        return counted
    if drawn is not None and layout.task in ("binary", "multiclass"):
        of_train = names[codes[selected.rows] == SPLITS.index("train")]
        for name in np.unique(of_train).tolist():
            drawn.add(name, columns, trained.rows[of_train == name])
    return counted.model_copy(
        update={
            "classes": _classes(part, trained),
            "missing": missing_events(columns, layout.columns, selected.rows),
        }
    )


def _classes(part: Part, events: UnitEvents) -> dict[str, ClassStatistics]:
    """The statistics of training events."""
    config, columns, rows = part.config, events.unit.columns, events.rows
    if config.statistics == "weights":
        return {ALL: _class(part, columns, rows, np.abs(events.weights))}
    if config.statistics == "classes" and part.layout.task:
        return {
            str(label): _class(part, columns, rows[events.labels == label])
            for label in np.unique(events.labels).tolist()
        }
    return {ALL: _class(part, columns, rows)}


def _class(
    part: Part,
    columns: Columns,
    rows: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> ClassStatistics:
    branches = {}
    for branch in part.branches:
        try:
            branches[branch.name] = summarize(branch, take(columns[branch.name], rows), weights)
        except OverflowError as error:
            raise DataError(
                str(error), file=part.file.url, tree=part.file.tree, branch=branch.name
            ) from None
    return ClassStatistics(events=len(rows), branches=branches)
