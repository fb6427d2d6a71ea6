"""Damaged baskets and pages: values or our error, never a crash, a hang or another's exception.

``FUZZ=1250`` is so many mutations of each file, 10,000 in all; ``make nightly`` runs that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from benchmarks.damage.flips import time_limit
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files.baskets import find_baskets
from hepdata_adapters.common.files.open import open_root, reading
from hepdata_adapters.common.files.read import read_columns
from hepdata_adapters.common.files.schema import Branch, get_tree, read_schema
from tests.common.files.test_basket_reader import COMPRESSIONS, holders

DATA = Path(__file__).parents[2] / "data"
MUTATIONS = int(os.environ.get("FUZZ", "300"))
EVENTS = 300
KINDS = [*(f"TTree {how}" for how in COMPRESSIONS), "TTree ROOT", "RNTuple ZSTD", "RNTuple ROOT"]


def events(random: np.random.Generator) -> dict[str, Any]:
    counts = random.poisson(3, EVENTS)
    total = int(counts.sum())
    return {
        "x": random.normal(size=EVENTS),
        "n": random.integers(-99, 99, EVENTS).astype(np.int16),
        "good": random.random(EVENTS) < 0.5,
        "pt": ak.unflatten(random.exponential(30, total).astype(np.float32), counts),
        "id": ak.unflatten(random.integers(0, 9, total).astype(np.int8), counts),
    }


def written(path: Path, kind: str) -> str:
    """A file of the kind; the name of its tree."""
    shape, how = kind.split()
    if how == "ROOT":
        source = DATA / ("vectors.root" if shape == "TTree" else "checksums-rntuple.root")
        shutil.copy(source, path)
        with uproot.open(path) as file:
            return next(iter(file)).partition(";")[0]
    random = np.random.default_rng(1)
    with uproot.recreate(path, compression=COMPRESSIONS[how]) as file:
        if shape == "TTree":
            types = {
                "x": "float64", "n": "int16", "good": "bool", "pt": "var * float32",
                "id": "var * int8",
            }  # fmt: skip
            file.mktree("t", types)
        else:
            file["t"] = events(random)
        for _ in range(2):
            file["t"].extend(events(random))
    return "t"


def stored(tree: Any, shape: str) -> list[tuple[int, int]]:
    """The first byte and the size of each basket or page."""
    if shape == "TTree":
        entries = int(tree.num_entries)
        return [
            (basket.seek, basket.size)
            for _, holder in holders(tree)
            for basket in find_baskets(holder, 0, entries)
            if basket.kept is None
        ]
    return [
        (page.locator.offset, page.locator.num_bytes)
        for cluster in tree.page_link_list
        for column in cluster
        for page in column.pages
        if page.locator.num_bytes
    ]


def mutated(raw: bytes, random: np.random.Generator) -> bytes:
    """The bytes with one fault: a bit, a byte, a number, a run of zeros, or a piece moved."""
    data = np.frombuffer(raw, np.uint8).copy()
    # half of the faults where a basket or block says what it is
    place = int(random.integers(min(len(data), 120) if random.random() < 0.5 else len(data)))
    fault = int(random.integers(5))
    if fault == 0:
        data[place] ^= np.uint8(1 << random.integers(8))
    elif fault == 1:
        data[place] = random.integers(256)
    elif fault == 2:
        limits = np.array([0, 1, -1, 2**31 - 1, -(2**31), 2**24], ">i4")
        number = random.choice(limits).astype(">i4").tobytes()
        part = data[place : place + 4]
        part[:] = np.frombuffer(number, np.uint8)[: len(part)]
    elif fault == 3:
        data[place : place + int(random.integers(1, 40))] = 0
    else:
        other = int(random.integers(len(data)))
        size = min(int(random.integers(1, 40)), len(data) - max(place, other))
        data[place : place + size] = data[other : other + size].copy()
    return data.tobytes()


def checked(column: Column, branch: Branch, entries: int) -> None:
    """What every column must be, whatever its values are."""
    assert len(column) == entries
    if isinstance(column, Jagged):
        assert column.offsets[0] == 0
        assert (np.diff(column.offsets) >= 0).all()
        assert column.offsets[-1] == len(column.content)
    assert column.dtype == np.dtype(branch.dtype)


def outcome(read: Callable[[], dict[str, Column]]) -> dict[str, Column] | None:
    try:
        with time_limit(), reading():
            return read()
    except FileError:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_values_or_our_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    name = written(path, kind)
    whole, random = path.read_bytes(), np.random.default_rng(KINDS.index(kind))
    refused = 0
    with open_root(str(path)) as directory, path.open("r+b", buffering=0) as file:
        tree = get_tree(directory, name, str(path))
        branches = [branch for branch in read_schema(tree).values() if branch.readable]
        entries = int(tree.num_entries)
        places = stored(tree, kind.split()[0])
        for _ in range(MUTATIONS):
            seek, size = places[random.integers(len(places))]
            start = int(random.integers(0, entries))
            stop = int(random.integers(start + 1, entries + 1))
            raw = whole[seek : seek + size]
            os.pwrite(file.fileno(), mutated(raw, random), seek)
            found = outcome(lambda a=start, b=stop: read_columns(tree, branches, a, b, None, 2))
            os.pwrite(file.fileno(), raw, seek)
            if found is None:
                refused += 1
                continue
            for branch in branches:
                checked(found[branch.name], branch, stop - start)
        clean = read_columns(tree, branches, 0, entries)
    assert path.read_bytes() == whole
    assert len(clean) == len(branches)
    assert 0 < refused < MUTATIONS
