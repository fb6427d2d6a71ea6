"""Threads that share out independent work, such as branches to uncompress.

They live as long as one call: starting one takes 0.1 ms, and none is left for a fork to lose.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def default_threads() -> int:
    """One for each core that this process may use; one in a worker process, as there are several.

    >>> default_threads() >= 1
    True
    """
    if multiprocessing.parent_process() is not None:
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def shared_out(work: Callable[[T], R], items: Sequence[T], threads: int) -> list[R]:
    """``work`` of each item, in their order, by this thread and ``threads - 1`` more.

    Each takes the next item that is left. After an error nothing new is begun, and one of the
    errors is raised.

    >>> shared_out(abs, [3, -4, 5], threads=2)
    [3, 4, 5]
    """
    if threads < 2 or len(items) < 2:
        return [work(item) for item in items]
    found: dict[int, R] = {}
    left = iter(range(len(items)))  # `next` is one step for all threads

    def take() -> None:
        try:
            for number in left:
                found[number] = work(items[number])
        finally:
            deque(left, maxlen=0)  # after an error the others stop, too

    with ThreadPoolExecutor(min(threads, len(items)) - 1, "hepdata") as pool:
        started = [pool.submit(take) for _ in range(min(threads, len(items)) - 1)]
        take()
        for one in started:
            one.result()
    return [found[number] for number in range(len(items))]
