"""How long something took, or was waited for."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Adds up the seconds of ``with`` blocks, and those that the items of iterators took to come.

    seconds: of all that was timed so far.

    >>> watch = Stopwatch()
    >>> list(watch.timed(iter("ab"))), watch.seconds > 0
    (['a', 'b'], True)
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += perf_counter() - self._started

    def timed(self, items: Iterator[T]) -> Iterator[T]:
        """The items; the time between asking for one and having it counts, that between does not.

        What they raise is raised.
        """
        while True:
            started = perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.seconds += perf_counter() - started
            yield item
