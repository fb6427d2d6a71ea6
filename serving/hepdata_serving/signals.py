"""Ending a server by a signal."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def signals_set(event: threading.Event) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and a closed terminal set the event instead of ending the process.

    An exception raised by a signal could strike anywhere: between a process's start and the note
    of its id, for one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals; the caller stops us otherwise
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        event.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
