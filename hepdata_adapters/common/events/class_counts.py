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
from hepdata_adapters.common.events.selection import deciding_branches, member_codes
from hepdata_adapters.common.events.targets import labels_of, weights_of
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.source import Source

_WHOLE = np.dtype(np.int64)


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


class Rows(BaseModel):
    """Training events of a unit: row, class and weight of each."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    unit: int
    start: int
    rows: NDArray[np.int64]
    label: NDArray[np.int64]
    weight: NDArray[np.float64]


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
    files = [_classes(config, manifest, layout, file) for file in manifest.files]
    everything = [found for file in files for found in file.values()]
    events = sum(sum(found.events) for found in everything)
    absolute = sum(found.absolute for found in everything)
    if not absolute:
        raise DataError("all training events have weight 0: there is nothing to sample")
    reference = absolute / events
    if config.sampling.resample:
        for number, file in enumerate(manifest.files):
            files[number] = _with_copies(config, manifest, layout, file, files[number], reference)
    return Counts(hash=wanted, reference=reference, files=tuple(files))


def _classes(
    config: DatasetConfig, manifest: Manifest, layout: Layout, file: FileInfo
) -> dict[int, ClassCount]:
    units = len(file.units) - 1
    events: dict[int, NDArray[np.int64]] = {}
    total: dict[int, float] = {}
    absolute: dict[int, float] = {}
    for found in training_rows(config, layout, file):
        for number in np.unique(found.label).tolist():
            weight = found.weight[found.label == number]
            events.setdefault(number, np.zeros(units, np.int64))[found.unit] = len(weight)
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
    manifest: Manifest,
    layout: Layout,
    file: FileInfo,
    classes: dict[int, ClassCount],
    reference: float,
) -> dict[int, ClassCount]:
    copies = {number: np.zeros(len(file.units) - 1, np.int64) for number in classes}
    for found in training_rows(config, layout, file):
        drawn = copies_of(
            found.weight, found.rows + found.start, file, reference, config.sampling.seed
        )
        for number in np.unique(found.label).tolist():
            copies[number][found.unit] = drawn[found.label == number].sum()
    return {
        number: known.model_copy(update={"copies": tuple(copies[number].tolist())})
        for number, known in classes.items()
    }


def training_rows(config: DatasetConfig, layout: Layout, file: FileInfo) -> Iterator[Rows]:
    """The training events of each unit of a file."""
    sample = config.samples[file.sample]
    own = [name for name in (sample.label, sample.weight.branch) if isinstance(name, str)]
    assert layout.task is not None  # noqa: S101 (checked by `cached_counts`)
    with Source([*dict.fromkeys([*own, *deciding_branches(layout, file.sample)])]) as source:
        for unit in range(len(file.units) - 1):
            start, stop = int(file.units[unit]), int(file.units[unit + 1])
            columns = source.read(file, start, stop)
            codes = member_codes(config.split, layout, file, start, stop, columns)
            rows = np.flatnonzero(codes == 0)
            yield Rows(
                unit=unit,
                start=start,
                rows=rows,
                label=labels_of(sample, layout.task, file, columns, rows, start, _WHOLE),
                weight=weights_of(sample, file, columns, rows, start),
            )
