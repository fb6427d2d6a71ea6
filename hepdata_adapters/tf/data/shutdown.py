"""The end of the process: TensorFlow's threads must be out of Python before Python ends.

TensorFlow reads ahead in threads of its own. One that is in Python code when the interpreter
ends never returns from it, and TensorFlow waits for it, for ever, when the iterator is freed.
So a script that ends in the middle of a pass would hang.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
import time
from collections.abc import Iterator
from types import FrameType

from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.worker_pool import BatchWorkers

QUIET_SECONDS = 0.5  # a busy machine may keep a thread from its turn for tens of milliseconds
MOST_SECONDS = 10


class Shutdown:
    """At exit, ends the passes that are under way and waits until their threads are out.

    begun: whether the process is ending; a pass then stops at its next batch.
    """

    def __init__(self) -> None:
        self.begun = False
        self._readers: list[EventStream | BatchWorkers] = []
        atexit.register(self._leave)

    @contextlib.contextmanager
    def watched(self, reader: EventStream | BatchWorkers) -> Iterator[None]:
        """While the block lasts, a pass over this reader is under way."""
        self._readers.append(reader)
        try:
            yield
        finally:
            self._readers.remove(reader)

    def _leave(self) -> None:
        if not self._readers:
            return
        self.begun = True
        for reader in list(self._readers):
            if isinstance(reader, BatchWorkers):  # a thread may wait for its next batch
                reader.close()
        _end_iterators()
        now = time.monotonic()
        deadline, quiet_since = now + MOST_SECONDS, now
        # a thread that still waits for the lock of Python (GIL) is not seen: it gets its turns
        while now < deadline and now - quiet_since < QUIET_SECONDS:
            time.sleep(0.001)
            now = time.monotonic()
            if any(_of_tensorflow(frame) for frame in sys._current_frames().values()):
                quiet_since = now


def _end_iterators() -> None:
    """Free TensorFlow's iterators now, while the threads that they wait for can still end.

    Those in variables of the script would be freed when Python lets no other thread run any more.
    """
    for thing in gc.get_objects():
        if type(thing).__name__ == "OwnedIterator" and hasattr(thing, "_iterator_resource"):
            thing._iterator_resource = None


def _of_tensorflow(frame: FrameType) -> bool:
    """Whether TensorFlow itself, not Python, started the thread."""
    while frame.f_back:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "")).startswith("tensorflow.")
