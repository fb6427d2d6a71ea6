"""What throughput was measured with: machine, config, data, and memory by its parts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY, Reading, RunConfig
from hepdata_adapters.common.core.machine import available_memory
from hepdata_adapters.common.core.threads import default_threads
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.open import is_remote, open_root, reading
from hepdata_adapters.common.files.schema import get_tree, is_rntuple
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.memory import COPIES, buffer_of

_ALGORITHMS = {0: "none", 1: "ZLIB", 2: "LZMA", 4: "LZ4", 5: "ZSTD"}  # ROOT's numbers


@dataclass(frozen=True)
class Memory:
    """What the memory of reading is divided into, in bytes.

    budget: for ``chunks`` (one of ``chunk_size`` events for each of ``streams``), ``ahead`` (the
    next chunk, while it is made) and ``units`` (decompressed entry ranges, and baskets that reach
    beyond one), of all processes together. given: whether the config says so. data: what all
    units of the data would take. available: on this machine.
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
    of these have been read. tree: its kind. compression: of most branches in the first file that
    has any. remote: whether files are not of this machine. read_columns: branches that are read
    of the files. columns: of ``x``. cores: that this process may use. load: processes that wanted
    a core when we began; None where the system does not say. cache: what the config says of later
    epochs; None where it cannot.
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
    first = next((file for file in prepared.manifest.files if file.entries), None)
    kind, compression = _stored(first) if first else ("", "")
    names = {name for file in prepared.manifest.files[:1] for name in _needed(prepared, file)}
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
        events=prepared.events("train"),
        round=_round(prepared),
        tree=kind,
        compression=compression,
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
        available=available_memory(),
    )


def _round(prepared: Dataset) -> int:
    units = sum(len(file.units) - 1 for file in prepared.manifest.files)
    groups = len(prepared.groups("train")[0])
    mean = prepared.events("train") / max(units, 1)
    streams = prepared.config.sampling.canonical_workers
    return min(prepared.events("train"), round(streams * groups * mean))


def _cache(reading: Reading) -> str | None:
    found = getattr(reading, "cache", None)
    return None if found is None else str(found)


def _needed(prepared: Dataset, file: FileInfo) -> list[str]:
    return list(file.preparation.needs(prepared.layout.branches))


def _stored(file: FileInfo) -> tuple[str, str]:
    """Kind of a tree, and how most of its branches are compressed, as in ``ZSTD-5``."""
    with open_root(file.url) as directory, reading(file=file.url, tree=file.tree):
        tree = get_tree(directory, file.tree, file.url)
        if is_rntuple(tree):
            codes = [column.compression_settings for column in tree.page_link_list[0]]
            return "RNTuple", _most([_said(*divmod(code or 0, 100)) for code in codes])
        found = (branch.compression for branch in tree.itervalues(recursive=True))
        codes = [one.code_pair if one else (0, 0) for one in found]
    return "TTree", _most([_said(*code) for code in codes])


def _said(algorithm: int, level: int) -> str:
    name = _ALGORITHMS.get(algorithm, f"algorithm {algorithm}")
    return f"{name}-{level}" if level else "none"


def _most(found: Sequence[str]) -> str:
    return Counter(found).most_common(1)[0][0] if found else ""
