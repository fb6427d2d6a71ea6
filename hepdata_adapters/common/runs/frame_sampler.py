"""A thread that looks at all others every few milliseconds, and adds up where they were."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from types import FrameType

from hepdata_adapters.common.runs.stages import WAITING, Frame, Seen, classify

INTERVAL = 0.004  # seconds
SWITCH = 2e-5
"""Seconds after which a thread lets go of the interpreter lock while it is looked at.

With Python's 5 ms the sampler would wait until others let go of it themselves, as they do in
kernels and decompressors, and would see them nowhere else: of 40 % of the time in stretches of
0.2 ms that hold the lock, it sees none with 5 ms, 19 % with 0.1 ms, 34 % with 0.02 ms.
"""


class FrameSampler:
    """Seconds of threads by where they were, inside of the ``with`` block.

    A thread that exists for t seconds counts t seconds. Threads that neither read nor train are
    left out.

    >>> with FrameSampler() as sampler:
    ...     time.sleep(0.05)
    >>> dict(sampler.seconds)
    {}
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self.seconds: Counter[Seen] = Counter()
        self._interval = interval
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._switch = 0.0

    def __enter__(self) -> FrameSampler:
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        self._thread = threading.Thread(target=self._watch, name="frame sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._switch)
        self._over.set()
        if self._thread:
            self._thread.join()

    def _watch(self) -> None:
        own, before = threading.get_ident(), time.perf_counter()
        while not self._over.is_set():
            time.sleep(self._interval)  # not `wait`, which costs another switch
            now = time.perf_counter()
            for thread, frame in sys._current_frames().items():
                # what is late stands for the time since the last look
                if thread != own and (seen := classify(_frames(frame))):
                    self.seconds[seen] += now - before  # type: ignore[assignment]
            before = now

    @property
    def waiting(self) -> float:
        """Seconds in which threads waited for others."""
        return sum(spent for seen, spent in self.seconds.items() if seen.stage == WAITING)


def _frames(frame: FrameType | None) -> Iterator[Frame]:
    """The functions of a thread, the innermost first."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        yield Frame(module if isinstance(module, str) else "", frame.f_code.co_name)
        frame = frame.f_back
