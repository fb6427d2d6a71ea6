"""What throughput was measured with: machine, config, data, and memory by its parts."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY, Reading, RunConfig
from hepdata_adapters.common.core.machine import available_memory
from hepdata_adapters.common.core.threads import default_threads
from hepdata_adapters.common.files.open import is_remote
from hepdata_adapters.common.runs.stored import stored
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.memory import COPIES, buffer_of


@dataclass(frozen=True)
class Memory:
    """What the memory of reading is divided into, in bytes.

    budget: for ``chunks`` (one of ``chunk_size`` events for each of ``streams``), ``ahead`` (the
    next chunk, while it is made) and ``units`` (decompressed entry ranges, and baskets that reach
    beyond one), of all processes together. given: whether the config says so. data: what all
    units of the data would take, data_round: those that all streams read from at a time.
    available: on this machine.
    """

    budget: int
    given: bool
    streams: int
    chunk_size: int
    event_bytes: int
    chunks: int
    ahead: int
    units: int
    data: int
    data_round: int
    available: int | None

    @property
    def keeps_all(self) -> bool:
        """Whether all units stay in memory, so that later epochs decompress nothing."""
        return self.data <= self.units

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "keeps_all": self.keeps_all}


@dataclass(frozen=True)
class Setting:
    """With what was measured.

    round: training events of the units that all streams read from at a time: after so many, all
    of these have been read. tree: its kind. compression: of most bytes in the first file that has
    any. stored: bytes of the files for a training event, those of other splits included. remote:
    whether files are not of this machine. read_columns: branches that are read of the files.
    columns: of ``x``. cores: that this process may use. load: processes that wanted a core when
    we began; None where the system does not say. cache: what the config says of later epochs;
    None where it cannot.
    """

    framework: str
    batch_size: int
    workers: int
    threads: int
    cores: int
    load: float | None
    files: int
    events: int
    round: int
    tree: str
    compression: str
    stored: float
    remote: bool
    read_columns: int
    columns: int
    cache: str | None
    memory: Memory

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "memory": self.memory.document()}


def setting_of(prepared: Dataset, config: RunConfig, workers: int) -> Setting:
    """The setting of a config on this machine."""
    first = next(file for file in prepared.manifest.files if file.entries)
    names = first.preparation.needs(prepared.layout.branches)
    lies = stored(first, names)
    events = prepared.events("train")
    training = config.training
    vector = prepared.transform.num_features if prepared.transform.vector else 0
    return Setting(
        framework=config.framework,
        batch_size=training.batch_size,
        workers=workers,
        threads=config.reading.threads or default_threads(),
        cores=default_threads(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        files=len(prepared.manifest.files),
        events=events,
        round=_round(prepared, events),
        tree=lies.tree,
        compression=lies.compression,
        stored=lies.entry * prepared.manifest.entries / max(events, 1),
        remote=any(is_remote(file.url) for file in prepared.manifest.files),
        read_columns=len(names),
        columns=vector,
        cache=_cache(config.reading),
        memory=_memory(prepared),
    )


def _memory(prepared: Dataset) -> Memory:
    sampling, reading = prepared.config.sampling, prepared.config.reading
    buffer = buffer_of(prepared.transform, sampling, prepared.specs)
    statistics = prepared.specs.branches
    width = sum(statistics[name].mean_bytes for name in prepared.specs.binding.branches)
    chunks, ahead = buffer.event_bytes * buffer.rows, buffer.event_bytes * COPIES * buffer.chunk
    units = prepared.unit_bytes
    given = reading.memory is not None
    return Memory(
        budget=int(reading.memory or max(DEFAULT_MEMORY, chunks + ahead + units)),
        given=given,
        streams=sampling.canonical_workers,
        chunk_size=buffer.chunk,
        event_bytes=buffer.event_bytes,
        chunks=chunks,
        ahead=ahead,
        units=units,
        data=int(width * prepared.manifest.entries),
        data_round=int(width * _round(prepared, prepared.manifest.entries)),
        available=available_memory(),
    )


def _round(prepared: Dataset, events: int) -> int:
    """How many of all ``events`` are in the units that all streams read from at a time."""
    units = sum(len(file.units) - 1 for file in prepared.manifest.files)
    groups = len(prepared.groups("train")[0])
    streams = prepared.config.sampling.canonical_workers
    return min(events, round(streams * groups * events / max(units, 1)))


def _cache(reading: Reading) -> str | None:
    found = getattr(reading, "cache", None)
    return None if found is None else str(found)
