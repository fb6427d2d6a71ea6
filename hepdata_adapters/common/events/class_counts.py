"""The counting pass: events and weights of each class in the training split, unit by unit.

Where the composition of the training events is changed (`Sampling.balance`, `Sampling.resample`)
the plan must know how many events of each class, or how many copies, each unit gives. This pass
reads labels, weights and identities only, once; its counts are kept beside the specs, named by
the hash of all they depend on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.cache import Cache
from hepdata_adapters.common.core.errors import ConfigError, DataError
from hepdata_adapters.common.core.hashing import digest, hash_integers, key
from hepdata_adapters.common.core.writing import write_whole
from hepdata_adapters.common.events.layout import Layout
from hepdata_adapters.common.events.selection import deciding_branches
from hepdata_adapters.common.events.targets import target_branches
from hepdata_adapters.common.events.unit_events import UnitEvents, read_units
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.source import Source


class ClassCount(BaseModel):
    """The training events of one class in one file.

    events: of each unit. total, absolute: sums of the weights and of their absolute values.
    copies: of each unit, how often its events are drawn together (with ``resample``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: tuple[int, ...]
    total: float
    absolute: float
    copies: tuple[int, ...] = ()


class Counts(BaseModel):
    """The counts of all files, by class. reference: the mean absolute weight of the events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    hash: str
    reference: float
    files: tuple[dict[int, ClassCount], ...]

    def classes(self) -> list[int]:
        """The classes that have events, in order."""
        return sorted({number for file in self.files for number in file})

    def of(self, number: int) -> list[ClassCount]:
        """The counts of a class in the files that have it."""
        return [file[number] for file in self.files if number in file]


def copies_of(
    weight: NDArray[np.float64],
    entries: NDArray[np.int64],
    file: FileInfo,
    reference: float,
    seed: int,
) -> NDArray[np.int64]:
    """How often each event is drawn so that its expectation is |weight| / reference, ``(n,)``.

    ``floor(|w| / reference + u)`` with u in [0, 1) by a hash of the event and the seed: unbiased,
    and the same wherever and whenever it is asked. Comparing a random number with the signed
    weight, as ``random < weight`` does, would lose all events of negative weight.
    """
    place = np.full(len(entries), key(file.uuid, file.tree), np.uint64)
    hashed = hash_integers([place, entries], key("copies", seed))
    uniform = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.floor(np.abs(weight) / reference + uniform).astype(np.int64)


def cached_counts(
    config: DatasetConfig, manifest: Manifest, layout: Layout, cache: Cache, data: str
) -> Counts:
    """The counts from the cache, or made now. data: what the specs and the files are, hashed.

    Raises ConfigError where there are no classes to count, DataError where no weight is left.
    """
    if layout.task not in ("binary", "multiclass"):
        raise ConfigError("sampling.balance and sampling.resample need labels that are classes")
    samples = [sample.model_dump(mode="json") for sample in config.samples]
    wanted = digest([data, samples, config.sampling.resample, config.sampling.seed])
    name = f"counts-{wanted[:16]}.json"
    with suppress(OSError, ValidationError):  # the cache is ours: what is damaged is made anew
        counts = Counts.model_validate_json(cache.path(name).read_bytes())
        if counts.hash == wanted:
            return counts
    counts = count(config, manifest, layout, wanted)
    cache.keep(name, lambda path: write_whole(path, counts.model_dump_json()))
    return counts


def count(config: DatasetConfig, manifest: Manifest, layout: Layout, wanted: str) -> Counts:
    """Read labels and weights of the training events and count them."""
    files = [_classes(config, layout, file) for file in manifest.files]
    everything = [found for file in files for found in file.values()]
    events = sum(sum(found.events) for found in everything)
    absolute = sum(found.absolute for found in everything)
    if not absolute:
        raise DataError("all training events have weight 0: there is nothing to sample")
    reference = absolute / events
    if config.sampling.resample:
        for number, file in enumerate(manifest.files):
            files[number] = _with_copies(config, layout, file, files[number], reference)
    return Counts(hash=wanted, reference=reference, files=tuple(files))


def _classes(config: DatasetConfig, layout: Layout, file: FileInfo) -> dict[int, ClassCount]:
    units = len(file.units) - 1
    events: dict[int, NDArray[np.int64]] = {}
    total: dict[int, float] = {}
    absolute: dict[int, float] = {}
    for unit, found in _training_events(config, layout, file):
        labels, weights = found.labels, found.weights
        for number in np.unique(labels).tolist():
            weight = weights[labels == number]
            events.setdefault(number, np.zeros(units, np.int64))[unit] = len(weight)
            total[number] = total.get(number, 0.0) + float(weight.sum())
            absolute[number] = absolute.get(number, 0.0) + float(np.abs(weight).sum())
    return {
        number: ClassCount(
            events=tuple(events[number].tolist()), total=total[number], absolute=absolute[number]
        )
        for number in sorted(events)
    }


def _with_copies(
    config: DatasetConfig,
    layout: Layout,
    file: FileInfo,
    classes: dict[int, ClassCount],
    reference: float,
) -> dict[int, ClassCount]:
    copies = {number: np.zeros(len(file.units) - 1, np.int64) for number in classes}
    for unit, found in _training_events(config, layout, file):
        labels = found.labels
        drawn = copies_of(found.weights, found.entries, file, reference, config.sampling.seed)
        for number in np.unique(labels).tolist():
            copies[number][unit] = drawn[labels == number].sum()
    return {
        number: known.model_copy(update={"copies": tuple(copies[number].tolist())})
        for number, known in classes.items()
    }


def _training_events(
    config: DatasetConfig, layout: Layout, file: FileInfo
) -> Iterator[tuple[int, UnitEvents]]:
    """The number of each unit of a file, and its training events."""
    sample = config.samples[file.sample]
    with Source([*target_branches(sample), *deciding_branches(layout, file.sample)]) as source:
        for number, unit in enumerate(read_units(source, file)):
            yield number, UnitEvents(unit, config, layout).of("train")
