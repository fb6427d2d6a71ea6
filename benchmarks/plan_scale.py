"""Time and memory until the first batch's ranges are known, for very many files.

    python benchmarks/plan_scale.py --files 100000 --events 1000000000000

The files are synthetic: nothing is read. Each has clusters of 16,384 events, counted only while
the file is under way, as with ``LazyPlanFile``.
"""

from __future__ import annotations

import resource
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from hepdata_adapters.common.plan.plan import LazyPlanFile, Plan

UNIT = 16_384


def unit_counts(events: int) -> NDArray[np.int64]:
    """Full units, and one with the rest."""
    full, rest = divmod(events, UNIT)
    return np.array([UNIT] * full + [rest] * (rest > 0), np.int64)


def synthetic_groups(files: int, events: int, samples: int) -> list[list[LazyPlanFile]]:
    """Files of equal size, dealt out to the samples."""
    each = events // files
    read = partial(unit_counts, each)
    return [
        [LazyPlanFile(number, each, read) for number in range(sample, files, samples)]
        for sample in range(samples)
    ]


def peak_memory() -> float:
    """The most memory that this process has had, in MB.

    Not ``ru_maxrss`` where Linux has better: that begins with what the process had that forked
    this one, which may be a whole test suite.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(
    files: Annotated[int, typer.Option(min=1)] = 100_000,
    events: Annotated[int, typer.Option(min=1)] = 10**12,
    samples: Annotated[int, typer.Option(min=1, help="Groups of the plan.")] = 20,
) -> None:
    """Measure and print."""
    before = peak_memory()
    start = time.perf_counter()
    groups = synthetic_groups(files, events, samples)
    listed = time.perf_counter()
    plan = Plan(groups, seed=0, epoch=0, batch_size=8 * 1024, chunk_size=8192, canonical_ranks=8)
    ranges = [part for piece in plan.locate(0, 0, plan.rows(0)) for part in plan.parts(piece.chunk)]
    first = time.perf_counter()
    for piece in plan.locate(plan.batches // 2, 0, plan.rows(0)):
        plan.parts(piece.chunk)
    later = time.perf_counter()
    most = peak_memory()
    units = {(part.file, part.unit) for part in ranges}
    print(
        f"{files:,} files, {plan.events:,} events, {plan.batches:,} global batches\n"
        f"listing the files: {listed - start:.2f} s\n"
        f"first global batch: {first - listed:.2f} s, {len(ranges)} ranges of {len(units)} units\n"
        f"one in the middle: {later - first:.3f} s\n"
        f"memory: {most:.0f} MB at most, {most - before:.0f} MB of it the plan's"
    )


if __name__ == "__main__":
    typer.run(main)
