"""Checks that the events of a dataset are delivered exactly once, by the code that delivers them.

The checks run the passes of all ranks and workers side by side in one process, through the same
reader as training, but with the cheapest feature only. What is kept is one byte an event (was it
delivered?) and one hash a global batch (is the order the same?). `hepdata_adapters.testing` has
the same as assertions on paths, configs and YAML files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sampling
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.common.events.layout import ResolvedFeature
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.files.derived_columns import common_preparation
from hepdata_adapters.common.plan.cursor import Cursor
from hepdata_adapters.common.plan.shuffle_quality import unit_reads
from hepdata_adapters.common.specs.compute import Progress
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import Epoch, EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

GLOBAL_BATCH = 960  # for 1, 2, 3, 4, 5, 6 and 8 ranks
MAX_STATE_BYTES = 4096
DEFAULT_RUNS = ((1, 0), (1, 2), (2, 1), (3, 2))
Events = NDArray[np.int64]
Run = tuple[int, int]


class DeliveryError(HepDataError):
    """An event was lost or delivered twice, or the order depends on who delivers it."""


@dataclass(frozen=True)
class Delivery:
    """What was checked, and held.

    runs: (ranks, workers) of each. stops: global batches before which the run was interrupted.
    read_again: units that the last run reads beyond the first time, as a share of all.
    """

    split: SplitName | None
    events: int
    batches: int
    runs: tuple[Run, ...]
    read_again: float = 0.0
    stops: tuple[int, ...] = ()

    def __str__(self) -> str:
        """One line.

        >>> print(Delivery("train", 1200, 2, ((1, 0), (3, 2)), 0.03))
        split train: 1,200 events in 2 global batches, each once and in the same order on 1×0, 3×2 \
ranks × workers; the last reads a unit 1.03 times
        >>> print(Delivery("train", 1200, 9, ((1, 0), (3, 2)), stops=(4,)))
        split train: 1,200 events in 9 global batches, resumed before batch 4 on 1×0, 3×2 \
ranks × workers
        """
        runs = ", ".join(f"{ranks}×{workers}" for ranks, workers in self.runs)
        what = f"split {self.split or 'all'}: {self.events:,} events in {self.batches:,} global"
        if self.stops:
            places = ", ".join(map(str, self.stops))
            return f"{what} batches, resumed before batch {places} on {runs} ranks × workers"
        return (
            f"{what} batches, each once and in the same order on {runs} ranks × workers; "
            f"the last reads a unit {1 + self.read_again:.2f} times"
        )


def exactly_once(
    dataset: Dataset,
    split: SplitName | None = None,
    *,
    runs: Sequence[Run] = DEFAULT_RUNS,
    global_batch_size: int = GLOBAL_BATCH,
    shuffle: bool = True,
    epoch: int = 0,
    progress: Progress | None = None,
) -> Delivery:
    """Deliver an epoch with each of the ``runs``, (ranks, workers), and compare.

    Every event of the split comes once, all ranks make equal steps, and the global batches are
    the same ones in the same order, byte for byte. What ``sampling`` repeats or leaves out on
    purpose is not looked at: the check is of the epoch without it.

    Raises DeliveryError naming the first event that is lost or comes twice, ConfigError for a
    number of ranks that does not divide the global batch size.
    """
    config = dataset.config
    plain = Sampling(**config.sampling.model_dump(include=_ORDER))
    dataset = replace(
        identities_only(dataset),
        config=config.model_copy(update={"sampling": plain}),
        counts=None,
    )
    first = _epoch(dataset, runs[0], runs, global_batch_size, shuffle, epoch)
    batches, events = first.length(dataset, split), dataset.events(split)
    order: list[bytes] = []
    with EventStream(dataset, split) as stream:
        for number, run in enumerate(runs):
            tally = _Tally(dataset, split)
            delivered = _epoch(dataset, run, runs, global_batch_size, shuffle, epoch)
            for batch, rows in enumerate(_global_batches(stream, delivered, run)):
                tally.add(rows, batch, run)
                _same_order(order, batch, rows, run, runs[0])
                if progress:
                    progress(number * events + tally.events, len(runs) * events)
            tally.check_complete(run)
    ranks, workers = runs[-1]
    again = unit_reads(delivered.plan(dataset, split), ranks, max(workers, 1)).again
    return Delivery(split, events, batches, tuple(runs), again)


def resumes(
    dataset: Dataset,
    split: SplitName | None = None,
    *,
    stops: Sequence[int] | None = None,
    runs: Sequence[Run] = DEFAULT_RUNS,
    global_batch_size: int = GLOBAL_BATCH,
    shuffle: bool = True,
    epoch: int = 0,
    progress: Progress | None = None,
) -> Delivery:
    """Deliver an epoch, interrupted before each of the ``stops`` and gone on by the next run.

    stops: numbers of global batches; by default after the first, in the middle and before the
    last. The runs, (ranks, workers), take turns; the state goes through JSON in between.

    Raises DeliveryError where the events are not those of an uninterrupted epoch, in its order.
    """
    dataset = identities_only(dataset)
    delivered = _epoch(dataset, runs[0], runs, global_batch_size, shuffle, epoch)
    batches, events = delivered.length(dataset, split), dataset.events(split)
    if stops is None:
        stops = [1, batches // 2, batches - 1]
    places = sorted({stop for stop in stops if 0 < stop < batches})
    used = [runs[turn % len(runs)] for turn in range(len(places) + 1)]
    order: list[bytes] = []
    done = 0
    with EventStream(dataset, split) as stream:
        for batch, rows in enumerate(_global_batches(stream, delivered, runs[0])):
            _same_order(order, batch, rows, runs[0], runs[0])
            done += len(rows)
            if progress:
                progress(done, 2 * events)
        start, state = 0, delivered.cursor(dataset, split).state()
        for run, stop in zip(used, [*places, batches], strict=True):
            present = _epoch(dataset, run, runs, global_batch_size, shuffle, epoch)
            present = present.resumed(_through_json(state), dataset, split)
            for batch, rows in zip(
                range(start, stop), _global_batches(stream, present, run), strict=False
            ):
                _same_order(order, batch, rows, run, runs[0])
                done += len(rows)
                if progress:
                    progress(done, 2 * events)
            start, state = stop, replace(present, start=stop).cursor(dataset, split).state()
    return Delivery(split, events, batches, tuple(used), stops=tuple(places))


def identities_only(dataset: Dataset) -> Dataset:
    """The same events in the same order with one cheap feature, for checks that read no more."""

    def cost(feature: ResolvedFeature) -> tuple[bool, int]:
        branch = feature.branch
        return branch.kind == "jagged", np.dtype(branch.dtype).itemsize * branch.size

    layout = dataset.layout
    if not layout.features:
        return dataset
    chosen = min(layout.features, key=cost)
    kind: Literal["flat", "array", "jagged"] = dataset.specs.branches[chosen.branch.name].kind
    # a value that training would refuse is another question
    lenient = FeatureTransform(
        branch=chosen.branch.name, kind=kind, dtype=chosen.branch.dtype,
        width=chosen.branch.size, factor=1e-38, missing=0.0,
    )  # fmt: skip
    transform = Transform(
        preparation=common_preparation(dataset.manifest, (lenient.branch,)),
        vector=VectorTransform(features=(lenient,)),
    )
    reduced = replace(layout, features=(chosen,), inputs={})
    return replace(dataset, layout=reduced, transform=transform)


def _epoch(
    dataset: Dataset, run: Run, runs: Sequence[Run], size: int, shuffle: bool, number: int
) -> Epoch:
    """The epoch of rank 0 of a run; canonical are the ranks of the first run."""
    ranks, workers = run
    if ranks < 1 or workers < 0:
        raise ConfigError(f"a run has at least 1 rank and 0 workers, not {ranks} and {workers}")
    if size % ranks:
        raise ConfigError(f"{ranks} ranks cannot share global batches of {size} events equally")
    options = EpochOptions(
        size // ranks, shuffle, dataset.config.sampling.seed, canonical_ranks=runs[0][0]
    )
    return options.epoch(number, world_size=ranks)


def _global_batches(stream: EventStream, delivered: Epoch, run: Run) -> Iterator[Events]:
    """The events of each global batch, in the order in which the ranks and workers deliver them.

    Like a DataLoader, each rank asks its workers in turn.
    """
    ranks, workers = run[0], max(run[1], 1)
    deliveries = [
        [replace(delivered, rank=rank).batches(stream, None, w, workers) for w in range(workers)]
        for rank in range(ranks)
    ]
    steps = delivered.length(stream.dataset, stream.split)
    for step in range(steps - delivered.start):
        parts = []
        for rank, delivery in enumerate(deliveries):
            batch = next(delivery[step % workers], None)
            if batch is None:
                number = delivered.start + step
                raise DeliveryError(f"{_named(run)}: rank {rank} ends before batch {number}")
            parts.append(batch["event"])
        if len({len(part) for part in parts}) > 1:
            raise DeliveryError(
                f"{_named(run)}: the ranks get {', '.join(str(len(part)) for part in parts)} rows "
                f"of global batch {delivered.start + step}"
            )
        events = np.concatenate(parts)
        yield events[events[:, 0] >= 0]
    for rank, delivery in enumerate(deliveries):
        if any(next(worker, None) is not None for worker in delivery):
            raise DeliveryError(f"{_named(run)}: rank {rank} goes on after batch {steps - 1}")


def _same_order(order: list[bytes], batch: int, rows: Events, run: Run, first: Run) -> None:
    """Keep the hash of a batch of the first run; raise DeliveryError if another differs."""
    found = blake2b(rows.tobytes(), digest_size=8).digest()
    if batch == len(order):
        order.append(found)
    elif order[batch] != found:
        raise DeliveryError(
            f"{_named(run)}: global batch {batch} does not hold the events that it has on "
            f"{_named(first)}, or not in that order"
        )


def _through_json(state: dict[str, object]) -> Cursor:
    text = json.dumps(state)
    if len(text.encode()) > MAX_STATE_BYTES:
        raise DeliveryError(f"the state is {len(text.encode())} bytes of JSON, over 4 KiB")
    return Cursor.of(json.loads(text))


def _named(run: Run) -> str:
    return f"{run[0]} ranks × {run[1]} workers"


class _Tally:
    """Which events of a split one run has delivered: a byte an entry of the files."""

    def __init__(self, dataset: Dataset, split: SplitName | None) -> None:
        self._dataset, self._split = dataset, split
        self._seen: dict[int, NDArray[np.bool_]] = {}
        self.events = 0

    def add(self, rows: Events, batch: int, run: Run) -> None:
        """Note the events of a global batch; raise DeliveryError for one that came before."""
        self.events += len(rows)
        for number in np.unique(rows[:, 0]).tolist():
            file = self._dataset.manifest.files[number]
            entries = np.sort(rows[rows[:, 0] == number, 1])
            seen = self._seen.setdefault(number, np.zeros(file.entries, np.bool_))
            twice = entries[seen[entries]].tolist() or entries[1:][np.diff(entries) == 0].tolist()
            if twice:
                raise DeliveryError(
                    f"{_named(run)}: entry {twice[0]} of {file.url} came before global batch "
                    f"{batch} and comes again in it, or twice in it"
                )
            seen[entries] = True

    def check_complete(self, run: Run) -> None:
        """Raise DeliveryError for the first unit of which the run did not deliver all events."""
        for number, file in enumerate(self._dataset.manifest.files):
            expected = self._dataset.specs.counts(number, self._split)
            seen = self._seen.get(number, np.zeros(file.entries, np.bool_))
            sums = np.concatenate(([0], np.cumsum(seen)))
            found = np.diff(sums[file.units])
            for unit in np.flatnonzero(found != expected).tolist():
                low, high = int(file.units[unit]), int(file.units[unit + 1])
                lost = (np.flatnonzero(~seen[low:high]) + low).tolist()
                # without split and selection all entries count: the lost one has a name
                alone = expected[unit] == high - low
                which = f"; entry {lost[0]} is lost" if alone else ""
                raise DeliveryError(
                    f"{_named(run)}: {found[unit]} of {expected[unit]} events came of entries "
                    f"{low} to {high} of {file.url}{which}"
                )


_ORDER = {"seed", "chunk_size", "canonical_workers"}
