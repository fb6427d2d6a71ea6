"""Ctrl-C and SIGTERM in a training: noted at once, acted upon where its state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = signal.SIGINT, signal.SIGTERM


class Signals:
    """Notes the first SIGINT or SIGTERM of a ``with`` block, and says so; the second acts as ever.

    number: of the signal that came, 0 before. Outside of the main thread, which alone gets
    signals, nothing is noted. An ignored signal stays ignored.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.number = 0
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            present = {number: signal.getsignal(number) for number in _SIGNALS}
            ignored = (None, signal.SIG_IGN)
            self._before = {n: handler for n, handler in present.items() if handler not in ignored}
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self) -> None:
        """Be the handler, also where a framework has put its own since the block began."""
        for number in self._before:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            self.__exit__()
            signal.raise_signal(number)
            return
        self.number = number
        name = signal.Signals(number).name
        self._tell(f"{name}: the training stops as soon as it can go on (once more stops it now)")
