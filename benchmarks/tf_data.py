"""Events per second of ``root_dataset`` beside the PyTorch loader, on the same data in one run.

    python benchmarks/tf_data.py --events 100000 --repeat 5

The sample is that of ``streaming.py``: the shape of the paper's, in two files. Both loaders read
it with the same code into the same batches, so what differs is how batches are handed over.
All systems take turns, ``--repeat`` times. The first epoch starts the workers, reads and
decompresses; later ones find what fits into the unit cache of each process. Ratios are to the
PyTorch loader with as many workers, turn by turn: their median, and the smallest and largest.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from streaming import BATCH, PAD, write_sample
from torch.utils.data import DataLoader

from hepdata_adapters.tf import root_dataset
from hepdata_adapters.torch import RootIterableDataset


def rate(batches: Iterable[dict[str, Any]]) -> float:
    """Events per second of one epoch."""
    start = time.perf_counter()
    events = sum(len(batch["x"]) for batch in batches)
    return events / (time.perf_counter() - start)


def spread(values: list[float], form: str) -> str:
    """Median, smallest and largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main(
    events: Annotated[int, typer.Option(help="Events a file.")] = 100_000,
    repeat: Annotated[int, typer.Option(min=2, help="Epochs of each system.")] = 5,
) -> None:
    """Measure and print the table."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_sample(Path(folder), events)
        labels = {str(path): number for number, path in enumerate(paths)}
        dataset = RootIterableDataset(
            labels, batch_size=BATCH, defaults={"length": PAD}, exclude=["ng*"]
        )
        prepared = dataset.prepared
        systems: dict[tuple[str, int], Iterable[dict[str, Any]]] = {
            ("RootIterableDataset", n): DataLoader(
                dataset, batch_size=None, num_workers=n, persistent_workers=n > 0
            )
            for n in (0, 2)
        }
        systems |= {
            ("root_dataset", n): root_dataset(prepared, batch_size=BATCH, num_workers=n)
            for n in (0, 2)
        }
        rates: dict[tuple[str, int], list[float]] = {system: [] for system in systems}
        for _ in range(repeat):
            for system, batches in systems.items():
                rates[system].append(rate(batches))
    table = Table("system", "workers", "first epoch", "ratio", "later epochs", "ratio")
    for (name, workers), found in rates.items():
        base = rates["RootIterableDataset", workers]
        ratios = [ours / theirs for ours, theirs in zip(found, base, strict=True)]
        table.add_row(
            name, f"{workers}", f"{found[0]:,.0f}/s", f"{ratios[0]:.2f}",
            spread(found[1:], ",.0f"), spread(ratios[1:], ".2f"),
        )  # fmt: skip
    console.print(table)
    console.print(f"{len(paths)} files of {events:,} events, {dataset.num_features} columns")


if __name__ == "__main__":
    typer.run(main)
