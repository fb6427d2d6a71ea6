"""An epoch: which global batches a process delivers, in what order.

The same for every framework: torch datasets, ``tf.data`` pipelines and worker processes differ
only in what they make of the arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

from hepdata_adapters.common.config.counts import MOST_STREAMS
from hepdata_adapters.common.core.errors import ConfigError, DataError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.ledger import SharedLedger
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.plan.cursor import Cursor, PlanIdentity
from hepdata_adapters.common.plan.plan import ORDER, Plan
from hepdata_adapters.common.plan.shard import Shard, Uneven
from hepdata_adapters.common.stream.dataset import Batch, Dataset
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.read_ahead import Step


@dataclass(frozen=True)
class EpochOptions:
    """What decides the batches of every epoch, the same on all ranks.

    batch_size: events of a batch of one rank. seed: of the order, with the number of the epoch.
    uneven: see `Shard`. canonical_ranks, canonical_workers: see `plan`; None takes the world
    size, and what the config says.
    events_per_epoch: an epoch has so many events of all ranks together (rounded up to whole
    batches) and the next goes on where it ended, through one order of all events after another.
    repeat: an epoch never ends. drop_last: a last batch of fewer events than the others is left
    out.

    Raises ConfigError for a number that makes no sense, and for options that exclude each other.
    """

    batch_size: int
    shuffle: bool
    seed: int
    uneven: Uneven = "pad"
    canonical_ranks: int | None = None
    canonical_workers: int | None = None
    events_per_epoch: int | None = None
    repeat: bool = False
    drop_last: bool = False

    def __post_init__(self) -> None:
        if (self.canonical_workers or 1) > MOST_STREAMS:
            raise ConfigError(f"canonical_workers is at most {MOST_STREAMS:,}: each holds a chunk")
        if self.events_per_epoch is not None and self.events_per_epoch < 1:
            raise ConfigError(f"events_per_epoch is at least 1, not {self.events_per_epoch}")
        if self.events_per_epoch is not None and self.repeat:
            raise ConfigError("a stream that repeats has no epochs: leave out events_per_epoch")

    def canonical(self, ranks: int | None, workers: int | None) -> EpochOptions:
        """The same with these canonical counts."""
        return replace(self, canonical_ranks=ranks, canonical_workers=workers)

    def epoch(self, number: int = 0, rank: int = 0, world_size: int = 1, start: int = 0) -> Epoch:
        """The epoch of this number for a rank, from its ``start``-th global batch on."""
        return Epoch(self, number, rank, world_size, start)


@dataclass(frozen=True)
class Epoch:
    """One epoch of one rank: which batches come, and when.

    number: of the order, with the seed. start: global batches of it that were delivered already.
    """

    options: EpochOptions
    number: int = 0
    rank: int = 0
    world_size: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        self.shard()

    @property
    def global_batch_size(self) -> int:
        """Events of a batch of all ranks together."""
        return self.options.batch_size * self.world_size

    def shard(self, worker: int = 0, workers: int = 1) -> Shard:
        """This rank and one of its workers. Raises ConfigError if there is no such rank."""
        return Shard(self.rank, self.world_size, worker, workers, self.options.uneven)

    def length(self, dataset: Dataset, split: SplitName | None) -> int:
        """Batches of this epoch, equal on all ranks, those before ``start`` included.

        Raises TypeError for a stream that repeats, as ``len`` does.
        """
        if self.options.repeat:
            raise TypeError("a stream that repeats has no length")
        if self.options.events_per_epoch is not None:
            return -(-self.options.events_per_epoch // self.global_batch_size)
        return _Order(self, dataset, split).steps

    def check(self, dataset: Dataset, split: SplitName | None) -> None:
        """Raise ConfigError where ``drop_last`` would leave out all events."""
        _ = _Order(self, dataset, split).steps

    def identity(self, dataset: Dataset, split: SplitName | None) -> PlanIdentity:
        """What a saved position belongs to."""
        options, sampling = self.options, dataset.config.sampling
        return PlanIdentity(
            data=dataset.specs.hash,
            features=digest(dataset.transform.model_dump(mode="json")),
            split=split,
            shuffle=options.shuffle,
            seed=options.seed,
            sampling=digest(
                [sampling.chunk_size, options.uneven, options.events_per_epoch, options.repeat]
                # as earlier versions had it without
                + ["drop_last"] * options.drop_last
                + ([] if (kept := dataset.config.reading.memory) is None else [int(kept)])
            ),
            batch_size=self.global_batch_size,
            canonical_ranks=options.canonical_ranks or self.world_size,
            canonical_workers=options.canonical_workers or sampling.canonical_workers,
            order=ORDER,
        )

    def cursor(self, dataset: Dataset, split: SplitName | None) -> Cursor:
        """The position at the start of this epoch."""
        return Cursor(plan=self.identity(dataset, split), epoch=self.number, batches=self.start)

    def resumed(self, cursor: Cursor, dataset: Dataset, split: SplitName | None) -> Epoch:
        """The epoch that goes on at the cursor, with its canonical counts where none are given.

        Raises StateError naming what differs if it belongs to another plan.
        """
        options = self.options
        adopted = replace(
            self,
            options=options.canonical(
                options.canonical_ranks or cursor.plan.canonical_ranks,
                options.canonical_workers or cursor.plan.canonical_workers,
            ),
            number=cursor.epoch,
            start=cursor.batches,
        )
        cursor.check(adopted.identity(dataset, split))
        if not options.repeat and cursor.batches >= adopted.length(dataset, split):
            return replace(adopted, number=cursor.epoch + 1, start=0)
        return adopted

    def plan(self, dataset: Dataset, split: SplitName | None) -> Plan:
        """The plan of this epoch's order (without ``events_per_epoch`` and ``repeat``)."""
        return _Order(self, dataset, split).plan(self.number)

    def batches(
        self, stream: EventStream, ledger: SharedLedger | None, worker: int = 0, workers: int = 1
    ) -> Iterator[Batch]:
        """The batches ``worker``, ``worker + workers``, … after ``start``.

        Raises DataError for a stream that repeats, or has a number of events to reach, and
        holds none.
        """
        options, order = self.options, _Order(self, stream.dataset, stream.split)
        endless = options.repeat or options.events_per_epoch is not None
        if endless and not order.steps:
            raise DataError(
                f"the split {stream.split!r} holds {order.events} event(s) for {self.world_size} "
                f"rank(s) with uneven={options.uneven!r}: there is no batch to repeat"
            )
        # fewer events than ranks: with no step to count what is dropped, one process does
        dropped = 0 if order.steps or self.rank or worker else order.events
        return stream.batches(
            self._steps(order, worker, workers), self.shard(worker, workers), ledger, dropped
        )

    def _steps(self, order: _Order, worker: int, workers: int) -> Iterator[Step]:
        options = self.options
        if options.repeat:
            for number in count(self.start + worker, workers):
                yield order.step(self.number * order.steps + number)
            return
        length = order.steps
        first = self.number * length
        if options.events_per_epoch is not None:
            length = -(-options.events_per_epoch // self.global_batch_size)
            first = self.number * length
        for number in self.shard(worker, workers).batches(length, self.start):
            yield order.step(first + number)


class _Order:
    """The orders of all epochs after each other, as one sequence of global batches."""

    def __init__(self, epoch: Epoch, dataset: Dataset, split: SplitName | None) -> None:
        self._epoch, self._dataset, self._split = epoch, dataset, split
        self.events = dataset.events(split)
        self._plan: Plan | None = None

    @cached_property
    def steps(self) -> int:
        """Batches in one order of all events."""
        size = self._epoch.global_batch_size
        if self._epoch.options.drop_last:
            if 0 < self.events < size:
                raise ConfigError(
                    f"drop_last would leave out all events: the split {self._split!r} holds "
                    f"{self.events:,}, fewer than a batch of {size:,}; lower batch_size"
                )
            return self.events // size
        batches = -(-self.events // size)
        return self._epoch.shard().steps(batches, self.events - (batches - 1) * size)

    def step(self, number: int) -> Step:
        """A global batch of the sequence."""
        order, batch = divmod(number, self.steps)
        if self._plan is None or self._plan.epoch != order:
            self._plan = self.plan(order)
        plan = self._plan
        left_out = plan.rows(batch + 1) if batch == self.steps - 1 < plan.batches - 1 else 0
        if self._epoch.options.drop_last:
            return Step(plan, batch, left_out, "events of a short last batch, left out")
        return Step(plan, batch, left_out)

    def plan(self, number: int) -> Plan:
        """The plan of the order of this number."""
        options = self._epoch.options
        return self._dataset.plan(
            self._split,
            batch_size=self._epoch.global_batch_size,
            shuffle=options.shuffle,
            seed=options.seed,
            epoch=number,
            canonical_ranks=options.canonical_ranks or self._epoch.world_size,
            canonical_workers=options.canonical_workers,
        )
