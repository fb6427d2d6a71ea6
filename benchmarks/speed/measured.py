"""The process that is measured: ``python -m benchmarks.speed.measured JOB``, prints one JSON line.

It runs in the environment of the system, where this project need not be installed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.job import Job, Source

ANSWER = "MEASURED "  # begins the line of the answer: the systems print, too


def main(path: Path) -> None:
    """Measure, check, answer."""
    begin = time.monotonic()
    job = Job.read(path)
    if job.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.cores])
    module = importlib.import_module(f"benchmarks.speed.loops.{job.system}")
    imported = time.monotonic()
    source: Source = module.source(job)
    ready = time.monotonic()
    epochs, first = [], math.nan
    for number in range(job.epochs):
        epochs.append(_epoch(source))
        if number == 0:
            first = ready - begin + epochs[0]["first_batch"]
    answer: dict[str, Any] = {
        "startup": begin - job.started, "imports": imported - begin, "ready": ready - imported,
        "first_batch": first if job.epochs else None, "epochs": epochs,
        "affine": source.affine, "columns": job.columns, "versions": _versions(source),
    }  # fmt: skip
    if job.rows:
        answer["delivered"] = _deliver(job, source)
    print(f"\n{ANSWER}{json.dumps(answer)}", flush=True)


def _epoch(source: Source) -> dict[str, Any]:
    start = time.monotonic()
    events, first = 0, math.nan
    for batch in source.epoch():
        events += source.events(batch)
        if math.isnan(first):
            first = time.monotonic() - start
    return {"events": events, "seconds": time.monotonic() - start, "first_batch": first}


def _deliver(job: Job, source: Source) -> dict[str, Any]:
    """A whole epoch: which events came, and the rows of the sample, left in ``job.rows``."""
    if source.rows is None:
        raise ValueError(f"{job.system} delivers no rows: there is nothing to compare")
    center, scale = source.affine
    wanted = np.array(job.sample, np.int64)
    ids, sampled = [], []
    for batch in source.epoch():
        rows = source.rows(batch)
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != job.columns:
            raise ValueError(f"{rows.dtype} {rows.shape} is not float32 (n, {job.columns})")
        found = np.rint(rows[:, 0].astype(np.float64) * scale + center).astype(np.int64)
        ids.append(found)
        sampled.append(rows[np.isin(found, wanted)].copy())
    everything = np.concatenate(ids)
    np.savez(job.rows, rows=np.concatenate(sampled))
    distinct = np.unique(everything)
    return {"events": len(everything), "distinct": len(distinct)}


def _versions(source: Source) -> dict[str, str]:
    versions = {"python": platform.python_version()} | source.versions
    return versions | {name: importlib.metadata.version(name) for name in source.packages}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # ROOT's and weaver's threads have nothing to do any more, and may not end
    sys.stdout.flush()
    os._exit(0)
