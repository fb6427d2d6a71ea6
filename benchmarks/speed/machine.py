"""What the figures were measured on."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import psutil

from benchmarks.speed.environments import HOME


def machine() -> dict[str, Any]:
    """CPU, cores, memory, system, and how busy it is."""
    return {
        "cpu": _cpu(), "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
        else os.cpu_count(), "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}", "load": os.getloadavg()[0],
    }  # fmt: skip


def code() -> str:
    """Of all that is ours and measured: figures of other code are others' figures."""
    found = hashlib.sha256()
    for folder in ("hepdata_adapters", "benchmarks/speed"):
        for path in sorted((HOME / folder).rglob("*.py")):
            found.update(path.relative_to(HOME).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
