"""What each level of ``verify`` costs, in time of reading everything."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.damage.files import write
from benchmarks.damage.flips import read_all

LEVELS = ("none", "size", "checksum")


def cost(folder: Path, kind: str, root_python: str | None, events: int, repeat: int) -> list[str]:
    """Seconds of reading a file at each level, and the ratios to ``none``.

    The best of ``repeat``, all levels in turn: the machine may have other work.
    """
    path = write(folder / f"cost-{kind.replace(' ', '-')}.root", kind, events, root_python)
    found: dict[str, list[float]] = {level: [] for level in LEVELS}
    for number in range(repeat + 1):  # the first learns, and fills the page cache
        for level in found:
            start = time.perf_counter()
            read_all(path, verify=level)
            if number:
                found[level].append(time.perf_counter() - start)
    best = {level: min(times) for level, times in found.items()}
    return [f"{best[level]:.4f} s ({best[level] / best['none'] - 1:+.1%})" for level in found]
