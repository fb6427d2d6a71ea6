"""Events per second from ROOT files to training batches, beside what users write by hand.

    python benchmarks/streaming.py --events 100000 --repeat 4

The sample has the shape of the paper's (sect. 4.3): 22 flat and 52 jagged branches, in two
files, ZSTD-5. All systems deliver shuffled float32 batches of 1024 events with padding; each is
run ``--repeat`` times, in turn, from a warm page cache. The first epoch reads and decompresses
everything; later ones find what fits into the unit cache of each process. The table gives the
first epoch, and median, spread and ratio to the hand-written loop of the later ones.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import awkward as ak
import numpy as np
import typer
import uproot
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from hepdata_adapters.torch import RootIterableDataset

FLAT, GROUPS, PER_GROUP, PAD, BATCH = 22, 4, 13, 10, 1024


def write_sample(folder: Path, events: int, files: int = 2) -> list[Path]:
    """Paper-shaped files: jagged branches in groups that share their count."""
    paths = []
    for number in range(files):
        random = np.random.default_rng(number)
        types = {f"flat{i}": "float32" for i in range(FLAT)}
        types |= {f"g{g}_{i}": "var * float32" for g in range(GROUPS) for i in range(PER_GROUP)}
        path = folder / f"sample{number}.root"
        with uproot.recreate(path, compression=uproot.ZSTD(5)) as file:
            file.mktree("Events", types)
            for _ in range(0, events, 20_000):
                n = min(20_000, events)
                arrays: dict[str, object] = {
                    f"flat{i}": random.normal(size=n).astype(np.float32) for i in range(FLAT)
                }
                for g in range(GROUPS):
                    counts = random.poisson(5, n)
                    for i in range(PER_GROUP):
                        values = random.exponential(size=counts.sum()).astype(np.float32)
                        arrays[f"g{g}_{i}"] = ak.unflatten(values, counts)
                file["Events"].extend(arrays)
        paths.append(path)
    return paths


def by_hand(paths: list[Path]) -> Iterator[np.ndarray]:
    """uproot.iterate, pad, shuffle in the step: file by file, unmixed, unscaled."""
    random = np.random.default_rng(0)
    files = [f"{path}:Events" for path in paths]
    wanted = ["flat*", "g*"]  # not the counters that mktree adds
    for arrays in uproot.iterate(files, filter_name=wanted, step_size=20_000):
        columns = []
        for name in arrays.fields:
            values = arrays[name]
            if values.ndim == 1:
                columns.append(ak.to_numpy(values)[:, None])
            else:
                padded = ak.pad_none(values, PAD, clip=True)
                columns.append(ak.to_numpy(ak.fill_none(padded, 0)))
        x = np.hstack(columns).astype(np.float32)[random.permutation(len(arrays))]
        yield from (x[start : start + BATCH] for start in range(0, len(x), BATCH))


def main(
    events: Annotated[int, typer.Option(help="Events a file.")] = 100_000,
    repeat: Annotated[int, typer.Option(min=2, help="Epochs of each system.")] = 4,
) -> None:
    """Measure and print the table."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_sample(Path(folder), events)
        dataset = RootIterableDataset(
            {str(path): number for number, path in enumerate(paths)},
            batch_size=BATCH, defaults={"length": PAD}, exclude=["ng*"],
        )  # fmt: skip
        loaders = {
            n: DataLoader(dataset, batch_size=None, num_workers=n, persistent_workers=n > 0)
            for n in (0, 2)
        }
        systems: dict[str, Callable[[], int]] = {
            "uproot.iterate + ak.pad_none, by hand": lambda: sum(len(x) for x in by_hand(paths)),
            "RootIterableDataset, 0 workers": lambda: sum(len(b["x"]) for b in loaders[0]),
            "RootIterableDataset, 2 workers": lambda: sum(len(b["x"]) for b in loaders[2]),
        }
        rates: dict[str, list[float]] = {name: [] for name in systems}
        for _ in range(repeat):
            for name, run in systems.items():
                start = time.perf_counter()
                rates[name].append(run() / (time.perf_counter() - start))
    table = Table("system", "first epoch", "ratio", "later (median)", "spread", "ratio")
    first, *later = next(iter(rates.values()))
    for name, (start, *rest) in rates.items():
        middle = statistics.median(rest)
        table.add_row(
            name, f"{start:,.0f}/s", f"{start / first:.2f}", f"{middle:,.0f}/s",
            f"{min(rest):,.0f} to {max(rest):,.0f}", f"{middle / statistics.median(later):.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"{len(paths)} files of {events:,} events, {dataset.num_features} columns")


if __name__ == "__main__":
    typer.run(main)
