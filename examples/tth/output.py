"""Columns to ROOT files, as TTree or RNTuple, with the same branch names in both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

Columns = dict[str, Any]

# Every ROOT reads zlib, and unlike ZSTD it notices flipped bits.
COMPRESSION = uproot.ZLIB(6)
GROUPS = ("Jet", "FatJet")


class Format(Enum):
    """How ROOT stores the columns."""

    ttree = "ttree"
    rntuple = "rntuple"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` only when everything went well."""
    partial = path.with_name(f".{path.name}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def grouped(columns: Columns) -> Columns:
    """The columns of a group as one record column, which uproot gives one shared counter.

    {"Jet_pt": …, "Jet_eta": …} becomes {"Jet": {"pt", "eta"}}: branches nJet, Jet_pt, Jet_eta.
    """
    result: Columns = {}
    members: dict[str, Columns] = {group: {} for group in GROUPS}
    for name, values in columns.items():
        group, _, field = name.partition("_")
        if group in GROUPS:
            members[group][field] = values
        else:
            result[name] = values
    zipped = {group: ak.zip(fields) for group, fields in members.items() if fields}
    return {**result, **zipped}


def counted(columns: Columns) -> Columns:
    """The columns with explicit counters nJet and nFatJet, which RNTuple does not need."""
    counters = {
        f"n{group}": ak.to_numpy(ak.num(columns[f"{group}_pt"])).astype(np.int32)
        for group in GROUPS
        if f"{group}_pt" in columns
    }
    return {**columns, **counters}


def write_table(file: Any, name: str, storage: Format, clusters: Iterator[Columns]) -> None:
    """One table; each item of `clusters` becomes one cluster (in a TTree: one basket a branch)."""
    if storage is Format.ttree:
        first = grouped(next(clusters))
        types = {key: ak.type(ak.Array(values)).content for key, values in first.items()}
        table = file.mktree(name, types)
        table.extend(first)
        prepare = grouped
    else:
        table = file.mkrntuple(name, counted(next(clusters)))
        prepare = counted
    for columns in clusters:
        table.extend(prepare(columns))


def write(
    path: Path, storage: Format, events: Iterator[Columns], runs: Callable[[], Columns]
) -> None:
    """A file with the table `Events` and, when those are all written, the table `Runs`."""
    with uproot.recreate(path, compression=COMPRESSION) as file:
        write_table(file, "Events", storage, events)
        write_table(file, "Runs", storage, iter([runs()]))
