"""Writing the columns of all epochs ahead: each unit that holds a selected event, once.

A unit that is in the folder already is not read. What is written is what the first epoch would.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

from hepdata_adapters.common.config.dataset_config import Reading
from hepdata_adapters.common.core.errors import ConfigError, WorkerError
from hepdata_adapters.common.core.machine import check_processes
from hepdata_adapters.common.core.parent_process import end_with_parent
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.files.unit_cache import UnitKey
from hepdata_adapters.common.files.unit_folder import UnitFolder
from hepdata_adapters.common.specs.compute import Progress
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.kept_units import units_delivered

JOB_ENTRIES = 2**17


@dataclass(frozen=True)
class Materialized:
    """What is in the folder now. units: of ``of`` that are wanted; written: those of them that
    were not there before. nbytes: of the units; folder_bytes: of all that is there.

    stopped: why not all are there, empty if they are.
    """

    units: int
    of: int
    written: int
    nbytes: int
    folder_bytes: int
    stopped: str = ""


def materialize(
    dataset: Dataset, processes: int = 1, progress: Progress | None = None
) -> Materialized:
    """Write the units of a dataset to ``reading.cache`` that are not there.

    progress: called with the entries written and all that were missing. Raises ConfigError where
    the config names no folder, the errors of reading, and WorkerError where a process died.
    """
    check_processes("processes", processes)
    folder = folder_of(dataset.config.reading)
    wanted = units_delivered(dataset)
    missing = [key for key in wanted if folder.path(key) is None]
    total, done, stopped = sum(map(_entries, missing)), 0, ""
    for entries, stopped in _written(dataset, _jobs(missing), processes):
        done += entries
        if progress and not stopped:
            progress(done, total)
        if stopped:
            break
    there = [path for key in wanted if (path := folder.path(key)) is not None]
    sizes = []
    for path in there:
        with suppress(OSError):
            sizes.append(path.stat().st_size)
    written = len(there) - (len(wanted) - len(missing))
    return Materialized(len(there), len(wanted), written, sum(sizes), folder.used(), stopped)


def folder_of(reading: Reading) -> UnitFolder:
    """The folder that keeps units, which tells nothing. Raises ConfigError for a config of none."""
    if reading.cache_folder is None:
        raise ConfigError(
            f"reading.cache is {reading.cache}: name the folder to write to, as reading.cache in "
            f"the config or with --cache"
        )
    return UnitFolder(reading.cache_folder, reading.cache_limit, tell=lambda _: None)


def _entries(key: UnitKey) -> int:
    start, stop = key.entries
    return stop - start


def _jobs(missing: Sequence[UnitKey]) -> Iterator[list[UnitKey]]:
    """Units of one file that follow each other, of about `JOB_ENTRIES` entries."""
    for _, keys in groupby(missing, key=lambda key: id(key.file)):
        job: list[UnitKey] = []
        for key in keys:
            job.append(key)
            if sum(map(_entries, job)) >= JOB_ENTRIES:
                yield job
                job = []
        if job:
            yield job


def _written(
    dataset: Dataset, jobs: Iterable[list[UnitKey]], processes: int
) -> Iterator[tuple[int, str]]:
    """The entries of each unit or job when it is written, and why it could not be."""
    if processes == 1:
        folder = folder_of(dataset.config.reading)
        for job in jobs:
            yield from _write(job, folder)
        return
    numbers = {id(file): number for number, file in enumerate(dataset.manifest.files)}
    # not fork: clients of remote files have threads, which a fork does not copy
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_start, initargs=(dataset,)
    )
    try:
        waiting = [
            pool.submit(
                _write_there, numbers[id(job[0].file)], [key.number for key in job], job[0].branches
            )
            for job in jobs
        ]
        for future in as_completed(waiting):
            yield future.result()
    except BrokenExecutor:
        raise WorkerError(
            "a worker process died. Where the memory ran out, use fewer processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _write(job: Sequence[UnitKey], folder: UnitFolder) -> Iterator[tuple[int, str]]:
    with Source(job[0].branches, kept=folder) as source:
        for key in job:
            source.unit(key.file, key.number)
            yield _entries(key), folder.stopped
            if folder.stopped:
                return


_own: list[tuple[Dataset, UnitFolder]] = []
"""Of a worker process: what it writes of, and where to."""


def _start(dataset: Dataset) -> None:
    end_with_parent()
    _own.append((dataset, folder_of(dataset.config.reading)))


def _write_there(file: int, numbers: Sequence[int], branches: tuple[str, ...]) -> tuple[int, str]:
    dataset, folder = _own[0]
    job = [UnitKey(dataset.manifest.files[file], number, branches) for number in numbers]
    entries = sum(written for written, _ in _write(job, folder))
    return entries, folder.stopped
