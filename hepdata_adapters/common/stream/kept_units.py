"""What the streams of a dataset keep of an epoch for the later ones, as ``reading.cache`` says.

All streams of a dataset in one process share it: training and validation read the same units, of
which each takes other events.
"""

from __future__ import annotations

import os
from threading import Lock
from weakref import WeakKeyDictionary

from hepdata_adapters.common.config.dataset_config import Reading
from hepdata_adapters.common.core.machine import available_memory
from hepdata_adapters.common.core.text import size_text
from hepdata_adapters.common.events.selection import deciding_branches
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.unit_cache import MemoryUnits, UnitKey, Units
from hepdata_adapters.common.specs.compute import file_branches
from hepdata_adapters.common.stream.dataset import Dataset

UNKNOWN_MEMORY = 2 * 2**30
"""Taken as free where the system does not say."""
_kept: WeakKeyDictionary[Dataset, Units] = WeakKeyDictionary()
_lock = Lock()


def _forked() -> None:
    """In a forked process: the lock may be held by a thread that is not here."""
    global _lock
    _lock = Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def kept_units(dataset: Dataset, workers: int = 1) -> Units | None:
    """What keeps the units of a dataset in this process, one of so many that share the limit.

    None where nothing is kept. Raises MissingExtraError for a folder, where pyarrow is missing.
    """
    reading = dataset.config.reading
    if reading.cache == "none":
        return None
    with _lock:
        if dataset not in _kept:
            _kept[dataset] = _made(reading, workers)
        return _kept[dataset]


def _made(reading: Reading, workers: int) -> Units:
    if reading.cache_folder is not None:
        # only here, as only this needs pyarrow and the locks of POSIX
        from hepdata_adapters.common.files.unit_folder import UnitFolder

        return UnitFolder(reading.cache_folder, reading.cache_limit)
    if reading.cache_limit is not None:
        return MemoryUnits(reading.cache_limit // workers)
    free = available_memory() or UNKNOWN_MEMORY
    return MemoryUnits(free // (2 * _local_ranks() * workers))


def _local_ranks() -> int:
    """Ranks on this machine, as launchers such as torchrun say, else one."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(text)) if text.isdecimal() else 1


def columns_read(dataset: Dataset, file: FileInfo) -> tuple[str, ...]:
    """The prepared columns that the streams of a dataset read of a file, in their order."""
    branches = file_branches(dataset.config, dataset.manifest, dataset.layout, file)
    deciding = deciding_branches(dataset.layout, file.sample)
    objects = dataset.transform.objects_counted
    return tuple(dict.fromkeys([*(branch.name for branch in branches), *deciding, *objects]))


def units_delivered(dataset: Dataset) -> list[UnitKey]:
    """All units that hold a selected event, in the order of the files."""
    found = []
    for number, file in enumerate(dataset.manifest.files):
        events = dataset.specs.counts(number, None)
        if events.any():
            columns = columns_read(dataset, file)
            found += [UnitKey(file, unit, columns) for unit in events.nonzero()[0].tolist()]
    return found


def kept_line(reading: Reading) -> str:
    """What is kept for later epochs, in a line; empty for nothing.

    >>> kept_line(Reading(cache="memory", cache_limit="4 GiB"))
    'columns are kept in memory for later epochs, up to 4.0 GiB a rank'
    """
    limit = reading.cache_limit
    if reading.cache == "none":
        return ""
    if reading.cache_folder is None:
        most = "half of what is free" if limit is None else f"{size_text(limit)} a rank"
        return f"columns are kept in memory for later epochs, up to {most}"
    most = "half of the free disk" if limit is None else size_text(limit)
    return f"columns are kept in {reading.cache_folder} for later epochs, up to {most}"
