"""Worker processes that read batches for this one, for any framework or none.

Not `multiprocessing.Process`: that runs the user's script again in each worker (so scripts need
a guard) or forks a process whose threads hold locks. A worker here is a fresh interpreter that
imports this package alone. Control messages go over a socket, batches through shared memory.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from hepdata_adapters.common.core import errors
from hepdata_adapters.common.core.errors import ConfigError, HepDataError, WorkerError
from hepdata_adapters.common.core.ledger import SharedLedger
from hepdata_adapters.common.core.machine import available_memory, check_processes
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.stream.dataset import Batch, Dataset
from hepdata_adapters.common.stream.epoch import Epoch
from hepdata_adapters.common.stream.memory import USABLE
from hepdata_adapters.common.stream.shared_batches import Slots, anonymous_memory, fixed_fields
from hepdata_adapters.common.stream.worker_process import (
    Ended,
    EpochJob,
    Failed,
    Filled,
    Release,
    Setup,
)

SLOTS = 3  # batches a worker may be ahead: chunks are loaded in bursts
SECONDS_TO_END = 5
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from hepdata_adapters.common.stream.worker_process import main; main(*map(int, sys.argv[2:]))"
)


class _Worker(NamedTuple):
    """One process, as its parent sees it. ``socket`` is another handle of the connection."""

    number: int
    process: subprocess.Popen[bytes]
    socket: socket.socket
    connection: Connection[Any, Any]
    memory: mmap.mmap


class BatchWorkers:
    """Processes that read the batches of a dataset, epoch after epoch, in the order of the plan.

    dataset: what to read; split: which part. batch_size: the most rows of a batch.
    workers: how many processes; worker w reads the batches w, w + workers, ….

    They start at once and stay, with files and caches open, until `close`, the end of the
    ``with`` block, a pass that is broken off or fails, or the end of this process, however it
    ends. Raises ConfigError for fewer than one worker and where there is no POSIX system.

    ::

        with BatchWorkers(dataset, "train", batch_size=1024, workers=2) as workers:
            options = EpochOptions(1024, shuffle=True, seed=0)
            for number in range(10):
                for batch in workers.batches(options.epoch(number)):
                    ...  # dict of arrays, as of EventStream
    """

    def __init__(
        self, dataset: Dataset, split: SplitName | None, *, batch_size: int, workers: int
    ) -> None:
        check_workers(workers, least=1)
        self._dataset = dataset
        self._slots = Slots(fixed_fields(dataset), batch_size, SLOTS)
        needed, available = workers * self._slots.nbytes, available_memory()
        if available is not None and needed > USABLE * available:
            raise ConfigError(
                f"{workers} worker(s) with {SLOTS} batches of {batch_size:,} events take "
                f"{needed / 1e9:,.1f} GB, and {available / 1e9:,.1f} GB are available here: "
                f"lower batch_size or num_workers"
            )
        self._workers: list[_Worker] = []
        self._close = weakref.finalize(self, _end, self._workers, os.getpid())
        self._passing = False
        try:
            for number in range(workers):
                self._workers.append(_start(number, self._slots.nbytes))
            for worker in self._workers:  # when all are starting: each takes a second to
                _send(worker, Setup(dataset, split, worker.number, workers, self._slots))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BatchWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the processes have ended."""
        return not self._close.alive

    @property
    def pids(self) -> list[int]:
        """The process identifiers of the workers."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End the processes and wait for them; closing twice is allowed."""
        self._close()

    def batches(self, epoch: Epoch, ledger: SharedLedger | None = None) -> Iterator[Batch]:
        """The batches of one pass, in order; see `EventStream` for their arrays.

        The arrays are views of shared memory, valid until the next batch is asked for: copy
        what must live longer. A pass that is not taken to its end closes the workers.

        Raises the HepDataError that a worker met, WorkerError for any other fault in one, and
        ConfigError where the workers are closed or busy with another pass.
        """
        if self.closed or self._passing:
            state = "closed" if self.closed else "busy with another pass"
            raise ConfigError(f"these workers are {state}: make another BatchWorkers")
        if epoch.options.batch_size > self._slots.rows:
            raise ConfigError(
                f"batch_size {epoch.options.batch_size} is more than the "
                f"{self._slots.rows} rows that "
                f"these workers were made for"
            )
        self._passing = True
        try:
            for worker in self._workers:
                _send(worker, EpochJob(epoch, ledger))
            left = len(self._workers)
            for worker in cycle(self._workers):
                try:
                    message = _receive(worker)
                except WorkerError as error:
                    if ledger is None:
                        raise
                    place = self._dataset.last_read(ledger, worker.process.pid)
                    raise WorkerError(f"{error} ({place})") from None
                if isinstance(message, Filled):
                    yield self._slots.views(worker.memory, message.slot, message.rows)
                    _send(worker, Release(message.slot))
                else:  # batches are dealt in turn: all others are at their end too
                    left -= 1
                    if not left:
                        break
            self._passing = False
        finally:
            if self._passing:
                self.close()


def check_workers(workers: object, least: int = 0) -> None:
    """Raise ConfigError unless so many worker processes can be had."""
    if not isinstance(workers, int) or workers < least:
        raise ConfigError(f"num_workers is a whole number from {least}, not {workers!r}")
    check_processes("num_workers", workers)
    if workers and os.name != "posix":
        raise ConfigError("worker processes need Linux or macOS; here num_workers must be 0")


def _start(number: int, size: int) -> _Worker:
    ours, theirs = socket.socketpair()
    descriptor = anonymous_memory(size)
    try:
        memory = mmap.mmap(descriptor, size)
        paths = [path for path in sys.path if isinstance(path, str)]
        shared = (theirs.fileno(), descriptor)
        process = subprocess.Popen(  # noqa: S603 (this interpreter, with our own program)
            [
                os.fsdecode(multiprocessing.spawn.get_executable()),
                *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                *("-c", _PROGRAM, json.dumps(paths), *map(str, shared)),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=shared,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()  # else its end would not be seen here
        os.close(descriptor)
    return _Worker(number, process, ours, Connection(os.dup(ours.fileno())), memory)


def _end(workers: Iterable[_Worker], owner: int) -> None:
    if os.getpid() != owner:  # a forked child has copies of the sockets, not the workers
        return
    for worker in workers:
        # unlike close, this reaches the worker, and a thread of ours that waits for it, even
        # where a forked child holds the socket open
        with contextlib.suppress(OSError):  # it has ended already
            worker.socket.shutdown(socket.SHUT_RDWR)
        worker.socket.close()
    for worker in workers:
        try:
            worker.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:  # deep in a read of a server that does not answer
            worker.process.kill()
            worker.process.wait()


def _send(worker: _Worker, message: Setup | EpochJob | Release) -> None:
    # a worker that has ended says why in what it sent before, which is received in its turn
    with contextlib.suppress(OSError):
        worker.connection.send(message)


def _receive(worker: _Worker) -> Filled | Ended:
    try:
        message: Filled | Ended | Failed = worker.connection.recv()
    except (EOFError, OSError):
        raise _lost(worker) from None
    if isinstance(message, Failed):
        raise _rebuilt(message, worker)
    return message


def _rebuilt(failed: Failed, worker: _Worker) -> HepDataError:
    kind = getattr(errors, failed.error, None)
    if isinstance(kind, type) and issubclass(kind, HepDataError):
        # without its __init__, which would want the parts of the message
        return kind.__new__(kind, failed.text)
    return WorkerError(
        f"worker process {worker.number} failed with {failed.error}: {failed.text}\n{failed.trace}"
    )


def _lost(worker: _Worker) -> WorkerError:
    """The error for a worker whose socket has closed."""
    try:
        code = worker.process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        code = None
    place = f"worker process {worker.number} (pid {worker.process.pid})"
    if code is None:
        return WorkerError(f"{place} does not answer")
    if code < 0:
        return WorkerError(
            f"{place} was killed by {signal.Signals(-code).name}. Where the memory ran out, use "
            f"fewer workers or a smaller sampling.chunk_size"
        )
    return WorkerError(f"{place} ended with exit status {code}; standard error may say why")
