"""The end of a worker process when the process that it works for is gone, however that one ended.

Nothing of the system's does this in all cases: a fork server lives as long as its workers do, and
PR_SET_PDEATHSIG looks at the thread that started the process, which may end long before.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import wait

SECONDS = 0.5  # between two looks at the number of the parent
_THREAD = "hepdata-parent"


def end_with_parent(leave: Callable[[], None] | None = None) -> None:
    """Let this process end within a second of its parent, from now on; twice does no harm.

    For a worker of `multiprocessing`, of any start method, the parent is the process that asked
    for it; else it is the one that started it. ``leave`` is called first, to remove what the
    process made.
    """
    if any(thread.name == _THREAD for thread in threading.enumerate()):
        return
    parent = multiprocessing.parent_process()
    # the sentinel is the one thing by which a worker of a fork server sees its parent
    sentinel = getattr(parent, "_sentinel", None)
    watched = [] if sentinel is None else [sentinel]
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter and not wait(watched, SECONDS):
            pass
        try:
            if leave:
                leave()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)  # no clean-up waits for somebody who is gone

    threading.Thread(target=watch, name=_THREAD, daemon=True).start()
