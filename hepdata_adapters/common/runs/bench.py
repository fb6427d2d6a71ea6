"""How fast events are read and trained on, and where the time goes.

Measured are the loader alone, the training step alone (of batches that are in memory), and both
together, each for a bounded time after a warm-up. Half of that time nobody looks on, and gives the
rate; in the other half a `FrameSampler` gives the stages.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.runs.frame_sampler import FrameSampler
from hepdata_adapters.common.runs.process_usage import Usage, descendants, peak_memory, usage
from hepdata_adapters.common.runs.stages import STAGES, WAITING, Seen

STEP_WARM_UP = 0.25
"""Of the time of a measurement: a step has nothing to read before it runs as it will."""


class Counted(Protocol):
    """Told of each batch; True where that was enough."""

    def __call__(self, rows: int, nbytes: int = 0) -> bool: ...


class Rig(Protocol):
    """A framework's loader and training, to be measured.

    no_step: why there is nothing to train, empty if there is. held: batches that are in memory,
    from `hold` on.
    """

    no_step: str

    def batches(self, workers: int) -> Iterator[tuple[int, int]]:
        """Deliver training batches without end: rows and bytes of each."""

    def hold(self) -> None:
        """Keep some batches in memory."""

    def train(self, count: Callable[[int], bool], workers: int | None) -> None:
        """Train as ``fit`` does, until ``count(rows)`` is True.

        workers: of the loader; None takes the batches in memory.
        """


@dataclass(frozen=True)
class Rate:
    """Events in a time. nbytes: of the batches, 0 where they were not made.

    read: bytes of files, from_disk: those of them that were not in the page cache; None where the
    system does not say. cores: that were busy on average, of all processes.
    """

    events: int
    seconds: float
    nbytes: int
    read: int | None
    from_disk: int | None
    cores: float

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "events": self.events,
            "seconds": round(self.seconds, 4),
            "events_per_second": round(self.events_per_second, 1),
            "mb_per_second": round(self.nbytes / self.seconds / 1e6, 3),
            "mb_per_second_of_files": _millions(self.read, self.seconds),
            "mb_per_second_from_disk": _millions(self.from_disk, self.seconds),
            "cores_busy": round(self.cores, 2),
        }


@dataclass(frozen=True)
class StageRow:
    """A stage: seconds of all threads in it, its share of all but waiting, where most of it was."""

    stage: str
    seconds: float
    share: float
    us_per_event: float
    inside: str
    foreign: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "stage": self.stage,
            "thread_seconds": round(self.seconds, 4),
            "share": round(self.share, 4),
            "us_per_event": round(self.us_per_event, 4),
            "mostly_in": self.inside,
            "code_of_others": self.foreign,
        }


@dataclass(frozen=True)
class Measured:
    """One measurement.

    watched: events a second while the stages were looked at, 0 where they were not. first: seconds
    until the first batch. peak: bytes of memory that this process had at most so far,
    peak_workers: the processes under it at that time.
    """

    rate: Rate
    stages: tuple[StageRow, ...]
    watched: float
    first: float
    epochs: float
    peak: int | None
    peak_workers: tuple[int, ...] = ()

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.rate.document(),
            "events_per_second_while_watched": round(self.watched, 1),
            "epochs": round(self.epochs, 3),
            "first_batch_seconds": round(self.first, 3),
            "stages": [row.document() for row in self.stages],
            "peak_bytes": self.peak,
            "peak_bytes_of_workers": list(self.peak_workers),
        }


def stage_rows(seconds: Mapping[Seen, float], events: int) -> tuple[StageRow, ...]:
    """The stages that were seen, in their order; waiting last, and no part of the shares.

    >>> from hepdata_adapters.common.runs.stages import Frame
    >>> seen = {Seen("fetch", Frame("m", "f")): 1.0, Seen("decode", Frame("m", "g")): 3.0}
    >>> [(row.stage, row.share, row.us_per_event) for row in stage_rows(seen, 1000)]
    [('fetch', 0.25, 1000.0), ('decode', 0.75, 3000.0)]
    """
    work = sum(spent for seen, spent in seconds.items() if seen.stage != WAITING)
    rows = []
    for stage in STAGES:
        own = Counter({seen: spent for seen, spent in seconds.items() if seen.stage == stage})
        if not own:
            continue
        total = sum(own.values())
        foreign = Counter({seen: spent for seen, spent in own.items() if seen.foreign})
        most, outside = own.most_common(1)[0][0], foreign.most_common(1)
        rows.append(
            StageRow(
                stage,
                total,
                0.0 if stage == WAITING else total / work,
                1e6 * total / max(events, 1),
                str(most.inside),
                # only what makes up half of the stage is to blame for it
                str(outside[0][0].inside) if outside and outside[0][1] > total / 2 else "",
            )
        )
    return tuple(rows)


class Lap:
    """A measurement that begins after a warm-up, and ends by itself.

    seconds: it lasts. warm_up: seconds between the first batch (before which processes start) and
    its beginning, in which ``least`` events must have come; ``epoch`` events end it, too.
    sampled: whether the stages are looked at, in the second half.
    """

    def __init__(
        self, seconds: float, warm_up: float, epoch: int, *, least: int = 0, sampled: bool
    ) -> None:
        self._parts = [seconds / 2, seconds / 2] if sampled else [seconds]
        self._warm_up, self._epoch, self._least = warm_up, epoch, least
        self._created = self._begun = time.perf_counter()
        self._first = 0.0
        self._all = self._events = self._bytes = 0
        self._before: Usage | None = None
        self._rate: Rate | None = None
        self._stages: tuple[StageRow, ...] = ()
        self._watched = 0.0
        self._sampler: FrameSampler | None = None
        self._peaks: tuple[int | None, tuple[int, ...]] = None, ()

    def __enter__(self) -> Lap:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sampler:
            self._sampler.__exit__()
            self._sampler = None

    def __call__(self, rows: int, nbytes: int = 0) -> bool:
        """Count a batch; True where the measurement is over."""
        now = time.perf_counter()
        self._first = self._first or now - self._created
        self._all += rows
        if self._before is None:
            since_first = now - self._created - self._first
            warm = since_first >= self._warm_up and self._all >= self._least
            if warm or self._all >= self._epoch:
                self._begin()
            return False
        self._events += rows
        self._bytes += nbytes
        if now - self._begun < self._parts[0]:
            return False
        if self._rate is None:
            used = usage().since(self._before)
            spent = now - self._begun
            self._rate = Rate(
                self._events, spent, self._bytes, used.read, used.from_disk, used.cpu / spent
            )
        if self._sampler:
            self._sampler.__exit__()
            self._stages = stage_rows(self._sampler.seconds, self._events)
            self._watched = self._events / (now - self._begun)
            self._sampler = None
        self._parts.pop(0)
        if self._parts:
            self._sampler = FrameSampler().__enter__()
            self._begin()
            return False
        found = (peak_memory(pid) for pid in descendants())
        self._peaks = peak_memory(), tuple(peak for peak in found if peak)
        return True

    def _begin(self) -> None:
        self._events = self._bytes = 0
        self._before = usage()
        self._begun = time.perf_counter()

    def measured(self) -> Measured:
        """What was found. Raises DataError where no batch came."""
        if self._rate is None:
            raise DataError("the training split gave no batch to measure")
        epochs = self._all / max(self._epoch, 1)
        return Measured(self._rate, self._stages, self._watched, self._first, epochs, *self._peaks)


@dataclass(frozen=True)
class Throughput:
    """All measurements. outside: the loader with its worker processes, if there are any."""

    loader: Measured
    outside: Measured | None
    step: Measured | None
    both: Measured | None

    @property
    def delivered(self) -> Measured:
        """The loader as the training has it."""
        return self.outside or self.loader


def measure(
    rig: Rig,
    events: int,
    seconds: float,
    workers: int,
    tell: Callable[[str], None],
    buffered: int = 0,
) -> Throughput:
    """Measure a rig. events: of an epoch. tell: is told what is being done.

    buffered: events of the first chunks of all streams, for which more is read than they hold.
    """

    def read(processes: int) -> Measured:
        with (
            Lap(seconds, seconds, events, least=buffered, sampled=not processes) as lap,
            closing(rig.batches(processes)) as batches,  # type: ignore[type-var]
        ):
            for rows, nbytes in batches:
                if lap(rows, nbytes):
                    break
        return lap.measured()

    def train(processes: int | None) -> Measured:
        held = processes is None
        warm_up = seconds * STEP_WARM_UP if held else seconds
        with Lap(
            seconds, warm_up, sys.maxsize if held else events,
            least=0 if held else buffered, sampled=True,
        ) as lap:  # fmt: skip
            rig.train(lap, processes)
        return lap.measured()

    outside = None
    if workers:  # first: this process then holds no chunks of its own
        tell(f"reading with {workers} worker process(es) …")
        outside = read(workers)
    tell("reading …" if not workers else "reading in this process, for the stages …")
    loader = read(0)
    if rig.no_step:
        return Throughput(loader, outside, None, None)
    rig.hold()
    tell("training on batches in memory …")
    step = train(None)
    tell("reading and training …")
    return Throughput(loader, outside, step, train(workers))


def _millions(count: int | None, seconds: float) -> float | None:
    return None if count is None else round(count / seconds / 1e6, 3)
