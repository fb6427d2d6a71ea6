"""One job makes one file. Jobs run in processes of their own and share nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
import output
from processes import PROCESSES

if TYPE_CHECKING:
    from simulate import Batch

CLUSTER_EVENTS = 500  # small, so that even a demonstration file has several clusters


class StoppedError(Exception):
    """The user stopped the run."""


@dataclass(frozen=True)
class Job:
    """One file of one process."""

    process: str
    file_number: int
    events: int
    seed: int
    storage: output.Format
    path: Path


@dataclass(frozen=True)
class JobResult:
    """What a job did."""

    job: Job
    generated: int
    cross_section: float  # pb
    cross_section_error: float
    cpu_seconds: float


_progress: Queue[tuple[str, int]] | None = None
_stop: Event | None = None


def start_worker(progress: Queue[tuple[str, int]], stop: Event) -> None:
    """Set up a worker process: where to report, when to stop, and silence."""
    global _progress, _stop
    _progress, _stop = progress, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it sets `stop`
    # FastJet prints its banner from C++, in the midst of the progress bars. The parent cites it.
    sys.stdout.flush()
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)


def clusters(batches: Iterator[output.Columns]) -> Iterator[output.Columns]:
    """The same events in groups of CLUSTER_EVENTS; the last group may be smaller."""
    waiting: list[output.Columns] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch["event"])
        while count >= CLUSTER_EVENTS:
            merged = concatenated(waiting)
            yield {name: values[:CLUSTER_EVENTS] for name, values in merged.items()}
            waiting = [{name: values[CLUSTER_EVENTS:] for name, values in merged.items()}]
            count -= CLUSTER_EVENTS
    if count:
        yield concatenated(waiting)


def concatenated(parts: list[output.Columns]) -> output.Columns:
    """Columns joined along the events."""
    return {name: ak.concatenate([part[name] for part in parts]) for name in parts[0]}


def identified(columns: output.Columns, run: int, luminosity_block: int) -> output.Columns:
    """Columns with the identity of the event and its weight in front."""
    events = len(columns["event"])
    return {
        "run": np.full(events, run, np.uint32),
        "luminosityBlock": np.full(events, luminosity_block, np.uint32),
        "event": columns["event"],
        "genWeight": columns["genWeight"],
        **columns,
    }


def metadata(job: Job, batches: list[Batch]) -> output.Columns:
    """The one entry of the tree `Runs`."""
    return {
        "run": np.array([PROCESSES[job.process].run], np.uint32),
        "luminosityBlock": np.array([job.file_number + 1], np.uint32),
        "nGenerated": np.array([sum(b.generated for b in batches)], np.int64),
        "nSelected": np.array([sum(b.selected for b in batches)], np.int64),
        "genEventSumw": np.array([sum(b.sum_weights for b in batches)], np.float64),
        "genEventSumw2": np.array([sum(b.sum_weights2 for b in batches)], np.float64),
        "crossSection": np.array([batches[-1].cross_section], np.float64),
        "crossSectionError": np.array([batches[-1].cross_section_error], np.float64),
        "seed": np.array([job.seed], np.int64),
    }


def run_job(job: Job) -> JobResult:
    """Simulate and write one file."""
    from simulate import simulate  # Pythia and FastJet load in workers only

    start = time.process_time()
    process = PROCESSES[job.process]
    # Seeded by what the job is, not by when or where it runs.
    seeds = np.random.SeedSequence([job.seed, process.run, job.file_number])
    done: list[Batch] = []

    def columns() -> Iterator[output.Columns]:
        for batch in simulate(process, seeds, job.events):
            if _stop is not None and _stop.is_set():
                raise StoppedError
            if _progress is not None:
                _progress.put((job.process, batch.selected))
            yield identified(batch.columns, process.run, job.file_number + 1)
            # Columns are not kept: a file may hold more events than the memory does.
            done.append(batch.without_columns())

    with output.replacing(job.path) as partial:
        output.write(partial, job.storage, clusters(columns()), lambda: metadata(job, done))
    return JobResult(
        job=job,
        generated=sum(batch.generated for batch in done),
        cross_section=done[-1].cross_section,
        cross_section_error=done[-1].cross_section_error,
        cpu_seconds=time.process_time() - start,
    )
