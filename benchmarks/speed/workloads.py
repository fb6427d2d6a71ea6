"""The inputs, what is read of them, and how long it is measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.speed.generate import FLAT, GROUPS, PER_GROUP

Shape = Literal["paper", "nano", "wide"]
Format = Literal["TTree", "RNTuple"]
Compression = Literal["ZSTD", "LZ4", "ZLIB", "LZMA"]
LENGTH = 8  # columns of a jagged branch
BATCH = 1024


@dataclass(frozen=True)
class Inputs:
    """Files of one kind. cluster: entries written at once (of ``wide``, else ROOT decides)."""

    shape: Shape
    files: int
    events: int
    format: Format = "TTree"
    compression: Compression = "ZSTD"
    cluster: int = 0

    @property
    def name(self) -> str:
        """Of their folder."""
        size = f"{self.files}x{self.events}"
        parts = [self.shape, self.format, self.compression, size]
        return "-".join([*parts, str(self.cluster)] if self.cluster else parts).lower()


@dataclass(frozen=True)
class Workload:
    """Inputs, and the columns that are read of the first ``files`` of them.

    memory: that we may take to read, where the data would fit the default though the workload
    stands for data that do not.
    """

    key: str
    title: str
    inputs: Inputs
    flat: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    files: int = 0
    memory: int | None = None

    @property
    def used(self) -> int:
        """Files that are read."""
        return self.files or self.inputs.files

    @property
    def events(self) -> int:
        """Of an epoch."""
        return self.used * self.inputs.events

    @property
    def columns(self) -> int:
        """Of a row."""
        return len(self.flat) + LENGTH * sum(map(len, self.groups.values()))


def _members(prefix: str, groups: int, members: int) -> dict[str, tuple[str, ...]]:
    return {
        f"{prefix}{group}": tuple(f"{prefix}{group}_{member}" for member in range(members))
        for group in range(groups)
    }


def _flat(count: int) -> tuple[str, ...]:
    return ("event_id", *(f"flat{number}" for number in range(1, count)))


def workloads(scale: float = 1.0, *, quick: bool = False) -> list[Workload]:
    """All of them. scale: of the events in each file. quick: so small that only faults show."""
    events, files = int(100_000 * scale), 10
    if quick:
        events, files = int(3_000 * scale), 3
    paper = Inputs("paper", files, events)
    columns = _flat(FLAT), _members("g", GROUPS, PER_GROUP)
    little = 2**20  # for chunks, units under way, and little more
    first = 2
    found = [
        Workload("tree", "TTree, ZSTD, more than any cache holds", paper, *columns),
        Workload("ntuple", "RNTuple, ZSTD, more than any cache holds",
                 replace(paper, format="RNTuple"), *columns),
        Workload("cached", "TTree, ZSTD, two files that a cache holds", paper, *columns, first),
        Workload("nano", "NanoAOD-like TTree, 40 of 1,000 branches, ZSTD",
                 Inputs("nano", 4, events // 2), _flat(8), _members("c", 4, 8),
                 memory=128 * little),
    ]  # fmt: skip
    found += [
        Workload(
            name.lower(), f"TTree, {name}, nothing cached",
            replace(paper, files=first, compression=name), *columns, memory=256 * little,
        )
        for name in ("LZ4", "ZLIB", "LZMA")
    ]  # fmt: skip
    total = 20 * events
    formats: tuple[Format, ...] = ("TTree", "RNTuple")
    parts = {"TTree": "basket", "RNTuple": "cluster"}
    found += [
        Workload(
            f"wide-{format_.lower()}-{kind}", f"10 floats, {format_}, {words} {parts[format_]}",
            Inputs("wide", 1, total, format_, cluster=cluster), _flat(10), {},
        )
        for format_ in formats
        for kind, words, cluster in (
            ("one", "all in one", total), ("small", f"{total // 100:,} in a", total // 100)
        )
    ]  # fmt: skip
    return found
