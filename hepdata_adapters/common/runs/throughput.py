"""What a training is limited by, reading or its own steps: in figures, in words, with advice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.threads import default_threads

How = Literal["in turn", "ahead", "beside"]
"""How batches are made: between the steps, ahead of them, or beside them in TensorFlow's thread."""

LEAST_WAITING = 0.1  # of the time, where batches are made ahead: below it is noise
LEAST_BUSY = 0.8  # of the time: the rest is what ends of epochs leave of a reader without a pause
SHORT_STEP = 0.01  # seconds: what every step costs, whatever its size, is much of it
BATCH = 1024  # above this that part is small for any network


class Reading(NamedTuple):
    """How a training reads. least: the share of the time from which on reading is its limit."""

    how: How
    least: float


BESIDE = Reading("beside", LEAST_BUSY)


@dataclass(frozen=True)
class Throughput:
    """Events that were trained, in how many seconds, of which how many were of reading.

    waited: seconds that the steps waited for their batches; of a reader beside the steps, those
    that it was busy. Validation takes no part.

    >>> found = Throughput(1000, seconds=2.0, waited=0.5, reading=Reading("in turn", 0.5))
    >>> found.limit, found.share
    ('step', 0.25)
    >>> print(found.verdict)
    500 events/s: the training step is the limit (75% of the time; the data could give 2,000/s)
    """

    events: int
    seconds: float
    waited: float
    reading: Reading

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / max(self.seconds, 1e-9)

    @property
    def share(self) -> float:
        """Of the time, how much the steps waited, or how much a reader beside them was busy."""
        return min(1.0, self.waited / max(self.seconds, 1e-9))

    @property
    def limit(self) -> Literal["reading", "step"]:
        """Which of the two, made faster, would make the training faster."""
        return "reading" if self.share >= self.reading.least else "step"

    @property
    def brief(self) -> str:
        """For the line of an epoch."""
        what = "reader busy" if self.reading.how == "beside" else "waiting for data"
        return f"{self.rate:,.0f} events/s ({what} {self.share:.0%})"

    @property
    def verdict(self) -> str:
        """For the line of a run: the limit, and where it is known what the other one could do."""
        how, limit = self.reading.how, self.limit
        waited = f"waited {self.share:.0%} of the time"
        if how == "beside":
            why = f"the reader was busy {self.share:.0%} of the time"
        elif limit == "reading":
            alone = self.events / max(self.seconds - self.waited, 1e-9)
            why = f"{waited}; the steps alone could take {alone:,.0f}/s"
        elif how == "in turn":
            given = self.events / max(self.waited, 1e-9)
            why = f"{1 - self.share:.0%} of the time; the data could give {given:,.0f}/s"
        else:
            why = f"it {waited} for data"
        what = "the training step" if limit == "step" else "reading"
        return f"{self.rate:,.0f} events/s: {what} is the limit ({why})"


def reading_of(config: RunConfig, events: int) -> Reading:
    """How a process reads that trains with PyTorch. events: of an epoch.

    Worker processes, or threads, read one chunk ahead; but for the first chunk of each stream the
    steps have to wait. Where these are the part f of an epoch, they wait at most the part f of the
    time as long as the rest is read in time. Where they are most of it, or nothing reads ahead,
    reading and steps take turns, and what takes longer is the limit.
    """
    training, sampling = config.training, config.sampling
    threads = config.reading.threads or default_threads()
    first = sampling.chunk_size * sampling.canonical_workers * training.devices / max(events, 1)
    if training.workers == 0 and (threads == 1 or first >= 1):
        return Reading("in turn", 0.5)
    return Reading("ahead", min(0.5, max(LEAST_WAITING, first)))


def advice(found: Throughput, config: RunConfig, threads: tuple[int, int]) -> str | None:
    """What to change for more events per second, or None where nothing is known to help.

    threads: that compute a step, and that would have enough to do in it.
    """
    training, cores = config.training, default_threads()
    own = 1 + training.workers
    if (load := _load()) > cores + own:
        return (
            f"other programs compute here, too (load average {load:.1f} on {cores} cores), which "
            f"makes both reading and steps slower: measure again when they have ended"
        )
    batch = training.batch_size * training.devices
    if found.limit == "reading":
        if config.reading.cache == "none" and training.epochs > 1:
            return (
                "reading.cache=memory, or a folder, keeps decompressed columns for later epochs "
                "(docs/cache.md)"
            )
        if batch < BATCH:
            return "a larger training.batch_size makes fewer batches (look at the AUC, too)"
        return None
    if threads[0] < min(cores, threads[1]):
        return f"training.threads={min(cores, threads[1])} computes a step on more cores"
    step = (
        (found.seconds - found.waited * (found.reading.how != "beside"))
        * batch
        / max(found.events, 1)
    )
    if step < SHORT_STEP and batch < BATCH:
        return (
            f"a step takes {step * 1000:.1f} ms, most of which does not depend on its size: a "
            f"larger training.batch_size takes fewer of them (look at the AUC, too)"
        )
    return None


def _load() -> float:
    """Programs that compute or wait for a core, as the system counts over a minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
