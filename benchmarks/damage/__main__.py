"""Damage and death: what becomes of flipped bits, cut and replaced files, killed processes.

    python -m benchmarks.damage --count 1000 --root-python /path/to/python

``--root-python`` is a Python with real ROOT, whose RNTuple pages carry checksums; without it
uproot writes the files. ``--only`` picks a table.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.damage.cost import LEVELS, cost
from benchmarks.damage.files import KINDS, write
from benchmarks.damage.flips import OUTCOMES, bounded_memory, flips, peak_memory, truncations

PARTS = ("replaced", "killed", "folders", "cost", "flips", "truncations")


def main(
    count: int = 1000,
    root_python: str | None = None,
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(PARTS)}.")] = None,
    events: int = 2_000_000,
) -> None:
    """Print the tables. Exit code 1 for a foreign error, a hang, or silence under checksum."""
    console = Console()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HEPDATA_CACHE"] = str(folder / "cache")
        for part in only or PARTS:  # memory is bounded last: others start processes
            if part in ("flips", "truncations"):
                bounded_memory()
                bad += _outcomes(part, folder, count, root_python, console)
            elif part == "cost":
                rows = {kind: cost(folder, kind, root_python, events, 5) for kind in KINDS}
                _print(console, "reading everything", ("", *LEVELS), rows)
            else:
                from benchmarks.damage import death

                work = {"killed": death.killed, "folders": death.folders}.get(part)
                found = {part: work(folder)} if work else {
                    f"{kind} replaced in the middle of a pass": death.replaced(folder, kind)
                    for kind in ("TTree ZSTD", "RNTuple ZSTD")
                }  # fmt: skip
                for title, rows in found.items():
                    _print(console, title, ("", ""), {k: [v] for k, v in rows.items()})
    if bad:
        raise typer.Exit(1)


def _outcomes(
    part: str, folder: Path, count: int, root_python: str | None, console: Console
) -> int:
    rows, shown, bad = {}, [], 0
    for kind in KINDS:
        path = write(
            folder / f"{part}-{kind.replace(' ', '-')}.root", kind, root_python=root_python
        )
        for level in LEVELS:
            work = flips if part == "flips" else truncations
            counts, errors = work(path, count, verify=level)
            bad += counts["foreign"] + counts["hang"]
            bad += counts["silent"] if level == "checksum" else 0
            rows[f"{kind}, verify: {level}"] = [str(counts[what]) for what in OUTCOMES]
            shown += [error for error in errors if error.startswith(("foreign", "hang"))]
    _print(console, f"{count} {part} each", ("", *OUTCOMES), rows)
    console.print(f"peak memory {peak_memory() / 2**20:.0f} MiB")
    for error in shown[:20]:
        console.print(error, markup=False)
    return bad


def _print(
    console: Console, title: str, columns: tuple[str, ...], rows: dict[str, list[str]]
) -> None:
    table = Table(box=None, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table, markup=False)


if __name__ == "__main__":
    typer.run(main)
