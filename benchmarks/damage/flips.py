"""Flipped bits: what becomes of each, for all kinds of files and levels of ``verify``."""

from __future__ import annotations

import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.damage.files import TREE
from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.common.core.errors import HepDataError
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.source import Source

OUTCOMES = ("silent", "error", "unharmed", "foreign", "hang")
SECONDS = 10
MAX_MEMORY = 6 * 2**30  # of addresses, far less than damaged sizes ask for


class Hang(BaseException):
    """A read took longer than `SECONDS`."""


def bounded_memory() -> None:
    """Let allocations fail that no file of this harness needs."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))


@contextmanager
def time_limit(seconds: int = SECONDS) -> Iterator[None]:
    """Raise Hang in this thread after so many seconds."""

    def ring(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_all(path: Path, **options: Any) -> Columns:
    """All columns of a file, unit by unit, as a training reads them."""
    sample = Sample(files=[f"{path}:{TREE}"], label=1)
    file = scan(DatasetConfig(samples=[sample], **options)).files[0]
    names = [branch.name for branch in file.schema.values() if branch.readable]
    found: Columns = {}
    with Source(names) as source:
        parts = [source.read(file, *edge) for edge in pairwise(file.units.tolist())]
    for name in names:
        columns = [part[name] for part in parts]
        if isinstance(columns[0], Jagged):
            content = np.concatenate([column.content for column in columns])
            lengths = np.concatenate([column.lengths for column in columns])
            found[name] = Jagged(content, np.concatenate([[0], lengths.cumsum()]))
        else:
            found[name] = np.concatenate(columns)
    return found


def same(one: Columns, other: Columns) -> bool:
    """Whether all values are those of the other columns, bit by bit."""
    return list(one) == list(other) and all(
        left.dtype == right.dtype and _bytes(left) == _bytes(right)
        for left, right in zip(one.values(), other.values(), strict=True)
    )


def _bytes(column: Any) -> tuple[bytes, ...]:
    if isinstance(column, Jagged):
        return column.content.tobytes(), column.offsets.tobytes()
    return (column.tobytes(),)


def outcome(path: Path, truth: Columns, **options: Any) -> tuple[str, str]:
    """One of `OUTCOMES`, and the error where there is one."""
    try:
        with time_limit():
            found = read_all(path, **options)
    except HepDataError as error:
        return "error", str(error)
    except Hang:
        return "hang", f"no end within {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "foreign", f"{type(error).__name__}: {error}"
    return ("unharmed", "") if same(found, truth) else ("silent", "")


def flip(data: bytes, bit: int) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(path: Path, count: int, seed: int = 0, **options: Any) -> tuple[Counter[str], list[str]]:
    """Flip ``count`` bits of a file, one after the other; counts of outcomes, and the errors.

    The file is whole again in the end. With ``verify``, it was read whole before.
    """
    whole = path.read_bytes()
    truth = read_all(path, **options)
    random = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    errors: list[str] = []
    try:
        for bit in random.integers(0, 8 * len(whole), count).tolist():
            path.write_bytes(flip(whole, bit))
            what, error = outcome(path, truth, **options)
            counts[what] += 1
            errors.append(f"{what} bit {bit}: {error}")
    finally:
        path.write_bytes(whole)
    return counts, errors


def truncations(
    path: Path, count: int, seed: int = 0, **options: Any
) -> tuple[Counter[str], list[str]]:
    """The same for a file that ends too early, at ``count`` places."""
    whole = path.read_bytes()
    truth = read_all(path, **options)
    random = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    errors: list[str] = []
    try:
        for size in random.integers(0, len(whole), count).tolist():
            path.write_bytes(whole[:size])
            what, error = outcome(path, truth, **options)
            counts[what] += 1
            errors.append(f"{what} at {size}: {error}")
    finally:
        path.write_bytes(whole)
    return counts, errors


def peak_memory() -> int:
    """The most bytes this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
