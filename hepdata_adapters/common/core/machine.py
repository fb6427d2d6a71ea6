"""What this machine can carry: memory, and processes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError

LEAST_PROCESSES, PER_CORE = 32, 4
MOST_KEPT = 32 * 2**20  # bytes of an array: glibc's largest threshold
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def check_processes(what: str, count: int) -> None:
    """Raise ConfigError for more processes than make sense on this machine.

    >>> check_processes("num_workers", 2)
    """
    cores = os.cpu_count() or 1
    most = max(LEAST_PROCESSES, PER_CORE * cores)
    if count > most:
        raise ConfigError(
            f"{what} is at most {most} here, not {count}: each is a process of about 0.3 GB, and "
            f"this machine has {cores} cores"
        )


def available_memory() -> int | None:
    """Bytes that this process can get without swapping, or None where the system does not say."""
    found = [
        int(line.split()[1]) * 1024
        for line in _lines("/proc/meminfo")
        if line.startswith("MemAvailable:")
    ]
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].strip().isdecimal():
        found.append(max(0, int(limit[0]) - int(used[0])))
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(found, default=None)


def return_memory() -> None:
    """Give the system what this process has freed, where its C library can (glibc).

    What threads allocate and free in turn leaves holes, which a process otherwise keeps.
    """
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed_memory() -> None:
    """Let this process use freed arrays of up to 32 MiB again, as the C library (glibc) learns to.

    TensorFlow forbids it as soon as a dataset has a generator (M_MMAP_THRESHOLD, 128 KiB): each
    array is then memory that is new to the process, with a fault for each page of it, which took
    half the time of a stream.
    """
    settings = _of_c_library("mallopt")
    if settings is not None:
        settings(_M_MMAP_THRESHOLD, MOST_KEPT)
        settings(_M_TRIM_THRESHOLD, 2 * MOST_KEPT)  # as glibc itself sets the two


@cache
def _of_c_library(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
