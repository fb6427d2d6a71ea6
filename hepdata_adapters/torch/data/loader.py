"""A DataLoader whose position can be saved and restored, and that says why a worker died."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import Signals
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset

from hepdata_adapters.common.core.errors import ConfigError, WorkerError, refuse_change
from hepdata_adapters.common.core.machine import check_processes
from hepdata_adapters.common.core.stopwatch import Stopwatch
from hepdata_adapters.common.stream.epoch import Epoch
from hepdata_adapters.common.stream.main_script import not_run_again
from hepdata_adapters.torch.data.convert import TensorBatch
from hepdata_adapters.torch.data.epoch_source import EpochSource

PREFETCH = 8  # batches a worker may be ahead: it makes a chunk, which has as many, at once
SECONDS_TO_DIE = 1  # between a closed connection and the end of its process
_FIXED = {"num_workers", "pin_memory", "pin_memory_device", "prefetch_factor", "timeout"}
_GIVEN_TO_THE_DATASET = {"batch_size": None, "drop_last": False, "shuffle": False}
_OF_THE_PLAN = {"batch_sampler": None, "sampler": None, "in_order": True}


class RootLoader(DataLoader[TensorBatch]):
    """A DataLoader of a `RootIterableDataset` that can be stopped and resumed at any batch.

    dataset: one that makes whole batches. num_workers: processes; they start from a fork server
    (a fork would copy the state of running threads at an arbitrary moment) and stay from pass to
    pass. They run the user's script again, which then needs a guard, only where they are given
    something that it defines. position: asked before each pass for its epoch and, for the first,
    how many of its batches are done; it overrules what was loaded. Without it, or where it gives
    None, each complete pass is followed by the next epoch. resumed: the pass to begin with, as
    `load_state_dict` sets it. Other options are those of `DataLoader`; what the dataset decides
    may be given as it is, as Lightning does where it makes a loader anew.

    `state_dict` is small JSON, the same on all ranks. It counts the batches handed out, not
    those that workers hold ready. It fits any number of workers, and of ranks with the same
    global batch size (batch size x ranks): the pass goes on with the exact next event. A pass
    that is broken off without `load_state_dict` begins anew. The position is that of the latest
    iterator. Workers serve one iterator at a time: an older one is refused its next batch.

    Raises ConfigError for a dataset of single events, options that the dataset decides, and
    a change of what the workers were started with; while iterating WorkerError, naming what was
    read, if a worker process dies, and ConfigError where a newer iterator has the workers.

    >>> import tempfile, uproot, numpy as np
    >>> from hepdata_adapters.torch import RootIterableDataset
    >>> path = tempfile.mkdtemp() + "/met.root"
    >>> with uproot.recreate(path) as file:
    ...     _ = file.mktree("Events", {"MET": "float32"})
    ...     file["Events"].extend({"MET": np.arange(100, dtype=np.float32)})
    >>> loader = RootIterableDataset(path, batch_size=40, shuffle=False, progress=False).loader()
    >>> first = next(iter(loader))
    >>> state = loader.state_dict()
    >>> state["epoch"], state["batches"]
    (0, 1)
    >>> loader.load_state_dict(state)
    >>> [int(batch["event"][0, 1]) for batch in loader]
    [40, 80]
    """

    def __init__(
        self,
        dataset: EpochSource,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int | None = None,
        position: Callable[[], tuple[int, int] | None] | None = None,
        resumed: Epoch | None = None,
        **options: Any,
    ) -> None:
        if dataset.batch_size is None:
            raise ConfigError("a dataset of single events has no loader: give it a batch_size")
        _refuse_decided(options)
        check_processes("num_workers", num_workers)
        if num_workers > 0:
            options = {
                "multiprocessing_context": "forkserver",
                "persistent_workers": True,
                "prefetch_factor": prefetch_factor or PREFETCH,
            } | options
        super().__init__(
            cast("Dataset[TensorBatch]", dataset),
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            **options,
        )
        self._events = dataset
        # by these names Lightning hands them on where it makes a loader anew
        self.position, self.resumed = position, resumed
        self._reached: Epoch | None = None
        self._passes = 0  # that were begun
        self._waiting = Stopwatch()

    def __setattr__(self, name: str, value: object) -> None:
        refuse_change(self, name, _FIXED, "make another: dataset.loader(…)")
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_iterator": None}  # the workers are of this process

    @property
    def seconds_waited(self) -> float:
        """How long all passes have waited for batches, and for worker processes to start.

        Where nothing is read ahead this is the time that reading took.
        """
        return self._waiting.seconds

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; it begins at its start."""
        self.resumed = replace(self.resumed or self._usual(), number=epoch, start=0)

    def state_dict(self) -> dict[str, Any]:
        """The position after the batch handed out last: numbers and strings, below 1 KiB."""
        reached = self.resumed or self._reached or self._next()
        return reached.cursor(self._events.prepared, self._events.split).state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on where the state was taken.

        Raises StateError, naming what differs, for a state of other data, features, split, seed,
        sampling or global batch size, and for anything that is no state.
        """
        self.resumed = self._events.resumed_epoch(state)

    def __iter__(self) -> Iterator[TensorBatch]:  # type: ignore[override]
        # a generator: Lightning makes iterators before it knows the epoch
        reached, self.resumed = self._next(), None
        self._reached = reached
        self._passes += 1
        number = self._passes
        self._events.set_next_epoch(reached)
        length = None if reached.options.repeat else len(self)
        last: list[TensorBatch] = []
        batches: Any = self._iterator  # workers that stayed from the pass before
        try:
            given = (self.dataset, self.collate_fn, self.worker_init_fn)
            with not_run_again(given) if self.num_workers else nullcontext(), self._waiting:
                batches = super().__iter__()
            for batch in self._waiting.timed(batches):
                reached = replace(reached, start=reached.start + 1)
                if reached.start == length:
                    # held back until all workers have ended the pass: the consumer may ask for
                    # no more, and the next epoch must not be set while one is still starting
                    last.append(batch)
                else:
                    if number == self._passes:
                        self._reached = reached
                    yield batch
                    self._check_latest(number)
        except (RuntimeError, OSError, EOFError) as error:  # so a dead worker shows itself
            self._check_workers(batches, error)
            raise
        if number == self._passes:
            self._events.set_epoch(reached.number + 1)
            self._reached = reached
        yield from last

    def _next(self) -> Epoch:
        """The epoch that comes next: as the position says, as was asked for, or the usual one."""
        epoch = self.resumed or self._usual()
        position = self.position() if self.position else None
        if position is None:
            return epoch
        number, done = position
        return replace(epoch, number=number, start=0 if self._passes else done)

    def _usual(self) -> Epoch:
        return replace(self._events.next_epoch(), start=0)

    def _check_latest(self, number: int) -> None:
        """Raise ConfigError for a pass whose workers have turned to a newer one."""
        if self.persistent_workers and number != self._passes:
            raise ConfigError(
                "a newer iterator of this loader has its worker processes, so this one has no "
                "more batches: iterate over one after the other, or make a loader for each: "
                "dataset.loader(…)"
            )

    def _check_workers(self, batches: Any, error: Exception) -> None:
        """Raise WorkerError if worker processes have died, after ending the others.

        What those hold ready will not be asked for.
        """
        workers: list[BaseProcess] = getattr(batches, "_workers", [])
        if workers:
            wait([worker.sentinel for worker in workers], SECONDS_TO_DIE)
        lost = [number for number, worker in enumerate(workers) if worker.exitcode]
        if not lost:
            return
        died = [self._death(number, workers[number]) for number in lost]
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
            remove_shared_memory(worker.pid)
        batches._shutdown_workers()  # its queues and threads
        self._iterator = None  # the next pass starts new workers
        killed = any((workers[number].exitcode or 0) < 0 for number in lost)
        advice = (
            "Where the memory ran out, use fewer workers or a smaller sampling.chunk_size"
            if killed
            else "What it wrote to standard error says why"
        )
        raise WorkerError(
            f"{'; '.join(died)}. {advice}. To go on, give load_state_dict the last state_dict"
        ) from error

    def _death(self, number: int, worker: BaseProcess) -> str:
        code = worker.exitcode or 0
        how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with status {code}"
        place = self._events.last_read(worker.pid or 0)
        return f"worker {number} of {self.num_workers} (pid {worker.pid}) {how}; {place}"


def _refuse_decided(options: dict[str, Any]) -> None:
    """Take out what the dataset decides; raise ConfigError where another value is given."""
    wrong = {
        name
        for name, present in (_GIVEN_TO_THE_DATASET | _OF_THE_PLAN).items()
        if name in options and options.pop(name) not in (present, None)
    }
    problems = []
    if given := sorted(wrong & _GIVEN_TO_THE_DATASET.keys()):
        problems.append(
            f"the dataset decides {', '.join(given)}: "
            f"RootIterableDataset(…, {', '.join(f'{name}=…' for name in given)})"
        )
    if taken := sorted(wrong & _OF_THE_PLAN.keys()):
        problems.append(
            f"a loader takes no {', '.join(taken)}: the plan decides which events come, in what "
            f"order; choose it with split, shuffle and seed of the dataset"
        )
    if problems:
        raise ConfigError("; ".join(problems))


def remove_shared_memory(pid: int | None) -> None:
    """Unlink what a process that is killed made for a batch and had no time to unlink."""
    for path in Path("/dev/shm").glob(f"torch_{pid}_*"):  # noqa: S108
        with suppress(OSError):
            path.unlink()
