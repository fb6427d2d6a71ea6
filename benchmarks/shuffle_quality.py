"""How well events are shuffled, and what it costs: chunk size and streams against a full shuffle.

    python benchmarks/shuffle_quality.py --events 100000

Four files of equal size, eight flat and four jagged branches, ZSTD-1, units of 10,000 events. One
process reads an epoch of the first kind of each row, with one batch of 1024 events a step:

- class spread, distance: see `hepdata_adapters.common.plan.shuffle_quality`; 1 = full shuffle. The
  classes are the files, or tenths of each file: the worst case, a file sorted by its class.
- buffer: transformed events held for shuffling, in one process with all streams.
- read again: units decompressed a second time by 4 processes, each keeping its last 64 units.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import awkward as ak
import numpy as np
import typer
import uproot
from rich.console import Console
from rich.table import Table

from hepdata_adapters.common.config.dataset_config import Sampling
from hepdata_adapters.common.plan.plan import Plan, PlanFile
from hepdata_adapters.common.plan.shuffle_quality import (
    class_spread,
    neighbour_distance,
    unit_reads,
)
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import prepare

FILES, FLAT, JAGGED, BATCH, TENTHS = 4, 8, 4, 1024, 10


def write_sample(folder: Path, events: int) -> list[Path]:
    """Files of ``events`` events each, in clusters of 10,000."""
    random = np.random.default_rng(0)
    types = {f"flat{i}": "float32" for i in range(FLAT)}
    types |= {f"jagged{i}": "var * float32" for i in range(JAGGED)}
    paths = [folder / f"sample{number}.root" for number in range(FILES)]
    for path in paths:
        with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
            file.mktree("Events", types)
            for start in range(0, events, 10_000):
                n = min(10_000, events - start)
                counts = random.poisson(4, n)
                flat = {f"flat{i}": random.random(n).astype(np.float32) for i in range(FLAT)}
                jagged = {
                    f"jagged{i}": ak.unflatten(random.random(counts.sum()).astype("f4"), counts)
                    for i in range(JAGGED)
                }
                file["Events"].extend(flat | jagged)
    return paths


def measure(paths: list[Path], chunk: int, streams: int, shuffle: bool) -> list[str]:
    """A row of the table."""
    samples = {str(path): number for number, path in enumerate(paths)}
    options = {"sampling": {"chunk_size": chunk}, "exclude": ["njagged*"]}
    dataset: Dataset = prepare(samples, options, progress=False)
    wanted = EpochOptions(BATCH, shuffle, seed=0, canonical_workers=streams).epoch()
    rows, width = [], 0
    with EventStream(dataset, None) as stream:
        start = time.perf_counter()
        for batch in wanted.batches(stream, None):
            rows.append(batch["event"])
            width = sum(values.nbytes for values in batch.values()) // len(batch["event"])
        rate = sum(map(len, rows)) / (time.perf_counter() - start)
    sizes = [file.entries for file in dataset.manifest.files]
    total = sum(sizes)
    tenth = [events[:, 1] * TENTHS // np.array(sizes)[events[:, 0]] for events in rows]
    tenths = np.bincount(np.concatenate(tenth)).tolist()
    held = streams * min(chunk, -(-total // streams)) * width if shuffle else BATCH * width
    again = unit_reads(wanted.plan(dataset, None), workers=4, cached=64).again
    return [
        f"{class_spread((events[:, 0] for events in rows), sizes):.2f}",
        f"{class_spread(tenth, tenths):.2f}",
        f"{neighbour_distance(rows, sizes):.2f}",
        f"{held / 1e6:,.1f} MB", f"{again:.1%}".replace("%", " %"), f"{rate:,.0f}/s",
    ]  # fmt: skip


def reads_of_small_caches(console: Console) -> None:
    """Units read per unit when the caches are smaller than what the streams need. No I/O."""
    table = Table("groups", "units kept", "reads of each unit")
    for groups in (2, 16, 64):
        files = [
            [PlanFile(n, np.full(2_000_000 // groups // 10_000, 10_000))] for n in range(groups)
        ]
        plan = Plan(files, seed=0, epoch=0, batch_size=BATCH, chunk_size=8192)
        for kept in (16, 64, 256, 1024):
            found = unit_reads(plan, workers=2, cached=kept)
            table.add_row(str(groups), str(kept), f"{found.reads / max(found.units, 1):.2f}")
    console.print(table)


def main(events: Annotated[int, typer.Option(help="Events a file.")] = 100_000) -> None:
    """Measure and print the tables."""
    console = Console(width=120)
    table = Table(
        "chunk_size", "streams", "spread, files", "spread, tenths", "distance", "buffer",
        "read again", "speed",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        paths = write_sample(Path(folder), events)
        table.add_row("no shuffle", "", *measure(paths, BATCH, 1, shuffle=False))
        for chunk in (1024, 8192, 32_768):
            for streams in (1, Sampling().canonical_workers):
                row = measure(paths, chunk, streams, shuffle=True)
                table.add_row(f"{chunk:,}", str(streams), *row)
        table.add_row("full shuffle", "1", *measure(paths, FILES * events, 1, shuffle=True))
    console.print(table)
    reads_of_small_caches(console)


if __name__ == "__main__":
    typer.run(main)
