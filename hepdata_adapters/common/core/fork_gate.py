"""Work of threads that a fork waits for.

A child has only the thread that forked: a lock that another one held, such as that of a module
which it was importing, is held in the child for ever.
"""

from __future__ import annotations

import os
import threading

SECONDS = 30.0


class ForkGate:
    """``with gate:`` around work of a thread; the process does not fork meanwhile.

    Where the work takes longer than `SECONDS`, as with a server that does not answer, it forks
    all the same.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._working = 0
        self._forking = False

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._forking, SECONDS)
            self._working += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._working -= 1
            self._changed.notify_all()

    def watch(self) -> None:
        """Let forks wait from now on: what is registered last is asked first."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after, after_in_child=self._new
            )

    def _before(self) -> None:
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: not self._working, SECONDS)

    def _after(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def _new(self) -> None:
        self.__init__()  # type: ignore[misc]
