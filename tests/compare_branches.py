"""Every branch of every tree below a folder, through the public dataset and by uproot alone.

``python -m tests.compare_branches FOLDER`` compares them value by value, in the order of the
file and shuffled, and prints a line a tree. Its exit status is 1 if a value differs. Branches
that are not read are counted with the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.errors import DataError, HepDataError
from hepdata_adapters.common.files.manifest import FileInfo, scan_file
from hepdata_adapters.common.files.open import open_root
from hepdata_adapters.common.files.schema import Branch, tree_names
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch import RootIterableDataset

GROUP = 1024  # branches of one dataset
VALUES = 2**25  # of one dataset, padding included


@dataclass
class Found:
    """What became of the branches of a tree. different: name and first entry. unread: reasons."""

    tree: str
    compared: int = 0
    values: int = 0
    different: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        said = f"{self.tree}: {self.compared} branches, {self.values:,} values"
        if self.different:
            said += f"; DIFFERENT: {', '.join(self.different)}"
        for reason, count in self.unread.most_common():
            said += f"\n    not read, {count}: {reason}"
        return said


def compare_folder(folder: Path) -> Iterator[Found]:
    """The trees of all files below a folder, each compared."""
    for path in sorted(folder.rglob("*.root*")):
        try:
            with open_root(str(path)) as directory:
                names = tree_names(directory)
        except HepDataError as error:
            yield Found(str(path), unread=Counter([_reason(error)]))
            continue
        for name in names:
            yield compare_tree(path, name)


def compare_tree(path: Path, name: str) -> Found:
    """The branches of a tree."""
    found = Found(f"{path}:{name}")
    try:
        file = scan_file(0, str(path), name)
    except HepDataError as error:
        found.unread[_reason(error)] += 1
        return found
    truth: dict[str, tuple[NDArray[Any], NDArray[np.int64] | None]] = {}
    with uproot.open(path) as directory:
        tree = directory[name]
        for branch in file.schema.values():
            if not branch.readable:
                found.unread[f"type {branch.typename[:60]}"] += 1
                continue
            truth[branch.name] = _truth(tree[branch.name], branch)
    if not file.entries:
        return found
    for group in _groups(file, truth):
        _compare(file, group, truth, found)
    return found


def _truth(holder: Any, branch: Branch) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Values, flat or in rows, and how many of a row are values."""
    array = holder.array(library="ak")
    if branch.kind != "jagged":
        values = ak.to_numpy(array)
        return values.reshape(len(values), -1), None
    lengths = ak.to_numpy(ak.num(array))
    width = max(int(lengths.max(initial=0)), 1)
    padded = ak.fill_none(ak.pad_none(array, width, clip=True), 0)
    return ak.to_numpy(padded).reshape(len(lengths), width), lengths


def _groups(file: FileInfo, truth: dict[str, Any]) -> Iterator[list[Branch]]:
    group: list[Branch] = []
    size = 0
    for branch in file.schema.values():
        if branch.name not in truth:
            continue
        own = truth[branch.name][0].size
        if group and (len(group) == GROUP or size + own > VALUES):
            yield group
            group, size = [], 0
        group.append(branch)
        size += own
    if group:
        yield group


def _compare(file: FileInfo, group: Sequence[Branch], truth: dict[str, Any], found: Found) -> None:
    try:
        prepared = Dataset.prepare(_config(file, group, truth))
        passes = [_delivered(prepared, shuffle=shuffle) for shuffle in (False, True)]
    except DataError as error:
        if len(group) == 1:
            found.unread[_reason(error)] += 1
        else:  # one of them cannot be had: which?
            for branch in group:
                _compare(file, [branch], truth, found)
        return
    found.compared += len(group)
    for shuffle, (x, mask, lengths, entries) in zip((False, True), passes, strict=True):
        everything = np.arange(file.entries)
        order = entries if not shuffle else np.sort(entries)
        if not np.array_equal(order, everything):
            found.different.append(f"events of {group[0].name} …")
            continue
        column = jagged = 0
        for branch in group:
            values, counts = truth[branch.name]
            width = values.shape[1]
            with np.errstate(over="ignore"):
                wanted = values[entries].astype(np.float64) - _least(branch, truth)
                wanted = wanted.astype(np.float32)
            wanted[~np.isfinite(wanted)] = 0
            part = slice(column, column + width)
            same = x[:, part] == wanted
            if counts is not None:
                real = np.arange(width) < counts[entries, None]
                same = (same | ~real) & (mask[:, part] == real)
                same &= (lengths[:, jagged] == counts[entries])[:, None]
                jagged += 1
            column += width
            found.values += same.size
            if not same.all():
                entry = int(entries[np.flatnonzero(~same.all(axis=1))[0]])
                found.different.append(f"{branch.name} (entry {entry})")


def _config(file: FileInfo, group: Sequence[Branch], truth: dict[str, Any]) -> DatasetConfig:
    features = [
        {"branch": branch.name, "scaling": {"center": _least(branch, truth)}, "missing": 0.0}
        | ({"length": truth[branch.name][0].shape[1]} if branch.kind == "jagged" else {})
        for branch in group
    ]
    return DatasetConfig.model_validate(
        {
            "samples": [{"files": file.url, "tree": file.tree}],
            "features": features,
            "split": {"train": 1.0, "validation": 0.0, "test": 0.0},
        }
    )


def _delivered(prepared: Dataset, *, shuffle: bool) -> tuple[NDArray[Any], ...]:
    """What the dataset gives: x, mask, lengths and entries of all events."""
    dataset = RootIterableDataset(prepared, batch_size=1024, shuffle=shuffle, progress=False)
    batches = list(dataset)
    arrays = [
        np.concatenate([batch[name].numpy() for batch in batches])
        for name in ("x", "mask", "lengths", "event")
    ]
    return (*arrays[:3], arrays[3][:, 1])


def _least(branch: Branch, truth: dict[str, Any]) -> float:
    """What is taken off integers, so that float32 tells large ones of a run or a day apart."""
    values = truth[branch.name][0]
    return float(values.min()) if values.dtype.kind in "iu" and values.size else 0.0


def _reason(error: Exception) -> str:
    return str(error).split(" [")[0][:120]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    done: list[Found] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HEPDATA_CACHE"] = cache
        for found in compare_folder(folder):
            print(found, flush=True)
            done.append(found)
    branches, values = sum(f.compared for f in done), sum(f.values for f in done)
    different = sum(len(f.different) for f in done)
    unread = sum(f.unread.total() for f in done)
    print(
        f"{len(done)} trees: {branches:,} branches compared, {values:,} values, "
        f"{different} different; {unread:,} not read"
    )
    return int(different > 0 or not branches)


if __name__ == "__main__":
    sys.exit(main())
