"""Parts of the specs pass: runs of units of one file, each summarised on its own.

The parts are the same however many processes and threads share them, and they are merged in their
order: that is why the result does not depend on who computed what, or when.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.hashing import key
from hepdata_adapters.common.events.identity import identity_branches
from hepdata_adapters.common.events.layout import Layout, manifest_branch
from hepdata_adapters.common.events.selection import deciding_branches
from hepdata_adapters.common.events.split import strategy
from hepdata_adapters.common.events.targets import target_branches
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.census import Census, added
from hepdata_adapters.common.specs.identities import Identities, sample_limit
from hepdata_adapters.common.specs.merge import merged_classes
from hepdata_adapters.common.specs.missing import summed
from hepdata_adapters.common.specs.model import ClassStatistics
from hepdata_adapters.common.specs.separation import Shapes, merged_shapes

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

    @property
    def counting(self) -> tuple[str, ...]:
        """The branches that are read of all units."""
        sample = self.config.samples[self.file.sample]
        deciding = deciding_branches(self.layout, self.file.sample)
        return (*deciding, *self.identity, *target_branches(sample))

    @property
    def summarised(self) -> tuple[str, ...]:
        """The branches that are read of chosen units."""
        return (*(branch.name for branch in self.branches), *self.counting)


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
