"""What checking costs, in time of reading everything: each level of ``verify``, and none at all."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

from benchmarks.damage.files import write
from benchmarks.damage.flips import read_all
from hepdata_adapters.common.files import read as branches
from hepdata_adapters.common.files import schema

LEVELS = ("none", "size", "checksum")
UNCHECKED = "without checks of pages and baskets"


def cost(folder: Path, kind: str, root_python: str | None, events: int, repeat: int) -> list[str]:
    """Seconds of reading a file in each way, and the ratios to ``none``.

    The best of ``repeat``, all ways in turn: the machine may have other work.
    """
    path = write(folder / f"cost-{kind.replace(' ', '-')}.root", kind, events, root_python)
    found: dict[str, list[float]] = {level: [] for level in (*LEVELS, UNCHECKED)}
    for number in range(repeat + 1):  # the first learns, and fills the page cache
        for level in found:
            start = time.perf_counter()
            if level == UNCHECKED:
                with (
                    patch.object(schema, "check_pages", lambda ntuple: ntuple),
                    patch.object(branches, "check_branch", lambda *_: None),
                ):
                    read_all(path)
            else:
                read_all(path, verify=level)
            if number:
                found[level].append(time.perf_counter() - start)
    best = {level: min(times) for level, times in found.items()}
    return [f"{best[level]:.4f} s ({best[level] / best['none'] - 1:+.1%})" for level in found]
