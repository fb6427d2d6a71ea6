"""What earlier passes read of a tree: checksums of its columns, kept beside the other caches.

A record is a text file of JSON lines. The first says what the tree looked like; each pass adds
lines for what it is the first to read, in one write, so that workers and jobs share a record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash

from hepdata_adapters.common.core.columns import Column, Columns, Jagged
from hepdata_adapters.common.core.errors import ConfigError, FileError

RENEW = "if it was meant to, let 'hepdata-adapters verify CONFIG --renew' learn it again"
Range = tuple[int, int]


class Seen(NamedTuple):
    """What was learned, and when."""

    value: Any
    time: str


@dataclass(frozen=True)
class Difference:
    """What was learned of entries of a branch, and what is read now."""

    branch: str
    entries: Range
    was: str
    now: str
    time: str

    def __str__(self) -> str:
        return f"the data changed since {self.time}: their checksum was {self.was}, is {self.now}"


def checksum(column: Column) -> str:
    """XXH3-64 of the values of a column, their dtype and, of lists, their lengths.

    >>> checksum(np.array([1, 2])) == checksum(np.array([1, 2], np.int32))
    False
    """
    content = column.content if isinstance(column, Jagged) else column
    found = xxhash.xxh3_64(f"{content.dtype.str}{content.shape}".encode())
    found.update(np.ascontiguousarray(content).data.cast("B") if content.size else b"")
    if isinstance(column, Jagged):
        found.update(np.ascontiguousarray(column.offsets - column.offsets[0], np.int64).data)
    return found.hexdigest()


class Record:
    """The record of one tree, as one process sees it.

    what: how the tree looked when it was first read. known: checksums by entry range and branch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._place = 0
        self.what: Seen | None = None
        self.whole: Seen | None = None  # the checksum of the whole file
        self.known: dict[Range, dict[str, Seen]] = {}

    def refresh(self) -> Record:
        """Read what was added since, also by others."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._place:
                    self._forget()  # it was renewed
                file.seek(self._place)
                lines = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return self
        except OSError as error:
            raise self._not_kept(error) from error
        lines = lines[: lines.rfind(b"\n") + 1]  # one may be under way
        self._place += len(lines)
        for line in lines.splitlines():
            self._take(line)
        return self

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            time = str(entry["time"])
            if "what" in entry:
                self.what = self.what or Seen(dict(entry["what"]), time)
            elif "whole" in entry:
                self.whole = Seen(dict(entry["whole"]), time)
            else:
                start, stop = entry["entries"]
                known = self.known.setdefault((int(start), int(stop)), {})
                for branch, value in entry["branches"].items():
                    known.setdefault(branch, Seen(str(value), time))
        except (ValueError, TypeError, KeyError, AttributeError):
            return  # a damaged line is one that is learned again

    def compare(self, columns: Columns, start: int, stop: int) -> list[Difference]:
        """Compare columns of entries ``start`` to ``stop`` with what is known; learn the rest."""
        entries = (start, stop)
        found = {name: checksum(column) for name, column in columns.items()}
        if any(name not in self.known.get(entries, {}) for name in found):
            self.refresh()
        known = self.known.get(entries, {})
        new = {name: value for name, value in found.items() if name not in known}
        if new:
            self.add(entries=entries, branches=new)
        return [
            Difference(name, entries, known[name].value, value, known[name].time)
            for name, value in found.items()
            if name in known and known[name].value != value
        ]

    def add(self, **entry: Any) -> None:
        """Append a line, in one write. Raises ConfigError where it cannot be written."""
        line = json.dumps(entry | {"time": now()}, separators=(",", ":")).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError as error:
            raise self._not_kept(error) from error
        self.refresh()

    def _not_kept(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"verify keeps what it learns in {self.path.parent}, which cannot be written "
            f"({error.strerror}): set HEPDATA_CACHE to a folder that can, or verify: none"
        )

    def renew(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self._forget()


class Records:
    """The records of the files that a process reads."""

    def __init__(self) -> None:
        self._open: dict[Path, Record] = {}

    def check(
        self, path: Path, columns: Columns, start: int, stop: int, place: Mapping[str, Any]
    ) -> None:
        """Compare what was read with the record, learning what is new.

        Raises FileError naming the first branch that differs.
        """
        if path not in self._open:
            self._open[path] = Record(path).refresh()
        for difference in self._open[path].compare(columns, start, stop):
            raise FileError(
                f"{difference}; {RENEW}",
                branch=difference.branch, entries=difference.entries, **place,
            )  # fmt: skip


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(" ", "seconds")
