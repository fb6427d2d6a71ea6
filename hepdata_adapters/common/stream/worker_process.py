"""What a worker process does: read its batches of each pass and hand them over.

The parent (`workers`) starts it as a fresh interpreter with a socket and a memory. It ends when
the socket closes, because the parent wants it to, and when the parent is gone, however it ended.
"""

from __future__ import annotations

import mmap
import os
import signal
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from hepdata_adapters.common.core.ledger import SharedLedger
from hepdata_adapters.common.core.parent_process import end_with_parent
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import Epoch
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.shared_batches import Slots


class Setup(NamedTuple):
    """Parent to worker, first of all: what it reads, who it is, how the memory is laid out."""

    dataset: Dataset
    split: SplitName | None
    worker: int
    workers: int
    slots: Slots


class EpochJob(NamedTuple):
    """Parent to worker: make a pass. All slots are free then."""

    epoch: Epoch
    ledger: SharedLedger | None


class Release(NamedTuple):
    """Parent to worker: the slot may be written again."""

    slot: int


class Filled(NamedTuple):
    """Worker to parent: the next batch is in this slot."""

    slot: int
    rows: int


class Ended(NamedTuple):
    """Worker to parent: no more batches in this pass, and the ledger is written."""


class Failed(NamedTuple):
    """Worker to parent, its last message: the class, text and traceback of the error."""

    error: str
    text: str
    trace: str


def main(socket: int, memory: int) -> None:
    """Serve passes until the parent closes the socket.

    socket, memory: file descriptors of a duplex socket and of an `anonymous_memory`.
    """
    end_with_parent()  # also in the middle of a read, or where a fork holds the socket open
    # Ctrl-C reaches the whole process group; the parent decides and closes the socket
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(socket)
    try:
        _serve(connection, memory)
    except Exception as error:
        _send(connection, Failed(type(error).__name__, str(error), traceback.format_exc()))


def _serve(connection: Connection[Any, Any], descriptor: int) -> None:
    setup: Setup = _receive(connection)
    memory = mmap.mmap(descriptor, setup.slots.nbytes)
    os.close(descriptor)
    with EventStream(
        setup.dataset, setup.split, setup.workers
    ) as stream:  # kept open from pass to pass
        while True:
            job: EpochJob = _receive(connection)
            free = deque(range(setup.slots.count))
            for batch in job.epoch.batches(stream, job.ledger, setup.worker, setup.workers):
                if not free:
                    free.append(_receive(connection).slot)
                slot = free.popleft()
                _send(connection, Filled(slot, setup.slots.write(memory, slot, batch)))
            while len(free) < setup.slots.count:
                free.append(_receive(connection).slot)
            _send(connection, Ended())


def _receive(connection: Connection[Any, Any]) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        raise SystemExit from None


def _send(connection: Connection[Any, Any], message: Filled | Ended | Failed) -> None:
    try:
        connection.send(message)
    except OSError:
        raise SystemExit from None
