"""What this process and its children take: memory, processor time, bytes of files.

Read from ``/proc``; elsewhere only what Python itself knows of this process.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Of all processes together, since each began.

    cpu: seconds. read: bytes asked for of files and sockets, None where the system does not say;
    from_disk: the part that was not in the page cache.
    """

    cpu: float
    read: int | None
    from_disk: int | None

    def since(self, before: Usage) -> Usage:
        """What was used after ``before``."""

        def less(now: int | None, then: int | None) -> int | None:
            return None if now is None or then is None else max(0, now - then)

        return Usage(
            max(0.0, self.cpu - before.cpu),
            less(self.read, before.read),
            less(self.from_disk, before.from_disk),
        )


def usage() -> Usage:
    """What this process and all processes under it have used.

    >>> usage().cpu > 0
    True
    """
    found = [_of(pid) for pid in descendants()]
    counters = [_counters(pid) for pid in (os.getpid(), *descendants())]
    known = [one for one in counters if one]
    return Usage(
        time.process_time() + sum(found),
        sum(one["rchar"] for one in known) if known else None,
        sum(one["read_bytes"] for one in known) if known else None,
    )


def peak_memory(pid: int | None = None) -> int | None:
    """Bytes of memory that a process (this one) had at most; None where nobody says.

    >>> peak_memory() is None or peak_memory() > 2**20
    True
    """
    for line in _lines(_PROC / str(pid or os.getpid()) / "status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if pid is None and resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) * (1 if sys.platform == "darwin" else 1024)
    return None


def descendants() -> list[int]:
    """The processes under this one, those of a fork server included; none without ``/proc``."""
    parents: dict[int, int] = {}
    for stat in _PROC.glob("[0-9]*/stat"):
        for line in _lines(stat):  # the name in brackets may hold blanks
            parents[int(stat.parent.name)] = int(line.rpartition(")")[2].split()[1])
    found, level = [], {os.getpid()}
    while level := {pid for pid, parent in parents.items() if parent in level}:
        found += sorted(level)
    return found


def _of(pid: int) -> float:
    """Seconds of processor time of another process."""
    for line in _lines(_PROC / str(pid) / "stat"):
        words = line.rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _counters(pid: int) -> dict[str, int]:
    pairs = (line.split(": ") for line in _lines(_PROC / str(pid) / "io"))
    return {name: int(value) for name, value in pairs}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # it has ended, or is not ours, or there is no /proc
        return []
