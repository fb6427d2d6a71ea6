"""The ledger: what was skipped, truncated, filled or padded, and how often.

Nothing that the adapters do to an event beyond reading it goes without a count here. Counts
add up, so ledgers of workers and ranks merge in any order.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.writing import cannot_be_written

NOWHERE = Path("/dev/null/hepdata-ledger")
"""In the place of a folder that could not be made: nothing can be written or found there."""

LedgerKind = Literal[
    "events delivered",
    "events with values beyond the pad length",
    "values beyond the pad length",
    "values filled (NaN or infinity)",
    "values clipped",
    "objects beyond the set",
    "objects outside the image",
    "cells with several objects",
    "padding rows for equal ranks",
    "events repeated for equal ranks",
    "events dropped for equal ranks",
    "events of a short last batch, left out",
    "files without events",
    "files not kept in the cache",
    "events not selected",
    "events left out by a policy",
    "branches excluded",
    "branches used as features",
    "objects read",
    "objects removed by a cut",
    "training events of one class only",
    "classes without events in a split",
    "labels that are no class",
    "weights that are NaN or infinite",
    "features that separate the classes alone",
    "features named like weights or truth",
    "features named like a label",
    "events that come more than once in a file",
    "events with the identity of others in a file",
    "events with the identity of others in another file",
    "events that are in two files",
    "validation and test events that are in training",
    "notes that need new specs",
    "branches of a name that an earlier one has (not read)",
]


class Ledger:
    """Counts of what happened, by kind and by place (a branch, a file, or "" for all).

    >>> ledger = Ledger()
    >>> ledger.add("values beyond the pad length", 3, "Jet_pt")
    >>> ledger.add("values beyond the pad length", 2, "Jet_pt")
    >>> print(ledger)
    values beyond the pad length: 5 (Jet_pt)
    """

    def __init__(self, counts: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._counts = {kind: Counter(places) for kind, places in (counts or {}).items()}

    def add(self, kind: LedgerKind, count: int, place: str = "") -> None:
        """Add ``count`` (zero adds no line)."""
        if count:
            self._counts.setdefault(kind, Counter())[place] += int(count)

    def merge(self, other: Ledger) -> None:
        """Add all counts of another ledger."""
        for kind, places in other._counts.items():
            self._counts.setdefault(kind, Counter()).update(places)

    def with_all_of(self, other: Ledger) -> Ledger:
        """A new ledger with the counts of both."""
        both = Ledger(self._counts)
        both.merge(other)
        return both

    def count(self, kind: LedgerKind, place: str | None = None) -> int:
        """The count of a kind, at one place or over all of them."""
        places = self._counts.get(kind, Counter())
        return places.total() if place is None else places[place]

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Counts by kind and place, sorted; JSON-ready."""
        return {kind: dict(sorted(self._counts[kind].items())) for kind in sorted(self._counts)}

    def __str__(self) -> str:
        if not self._counts:
            return "nothing was skipped, truncated or filled"
        return "\n".join(_line(kind, places) for kind, places in self.to_dict().items())


def _line(kind: str, places: Mapping[str, int], shown: int = 3) -> str:
    named = sorted((p for p in places.items() if p[0]), key=lambda item: -item[1])
    if not named:
        return f"{kind}: {sum(places.values()):,}"
    once = len(named) == 1 or all(count == 1 for _, count in named)
    listed = ", ".join(place if once else f"{place} {count:,}" for place, count in named[:shown])
    more = f", {len(named) - shown} more" if len(named) > shown else ""
    return f"{kind}: {sum(places.values()):,} ({listed}{more})"


class SharedLedger:
    """A ledger that several processes write and one reads, through small files.

    The object pickles into DataLoader workers. Each writer replaces its own file with its
    total so far; reading sums the files. The folder goes when the creating process drops it.
    Files, not queues: a reader that never looks cannot block a writer. Where the folder cannot be
    written, a process remembers its own counts, and those of others are lost, which is said.
    """

    def __init__(self) -> None:
        self.folder = _temporary_folder()
        self._own: dict[str, Ledger] = {}
        self._remove = weakref.finalize(self, _remove_if_owner, self.folder, os.getpid())

    def __getstate__(self) -> dict[str, Path]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.folder, self._own = state["folder"], {}

    def write(self, writer: str, ledger: Ledger) -> None:
        """Replace what ``writer`` has said so far."""
        if not self.folder.is_dir() and self.folder != NOWHERE:  # the reader is gone
            return
        partial = self.folder / f"{writer}.partial"
        try:
            partial.write_text(json.dumps(ledger.to_dict()))
            partial.replace(self.folder / f"{writer}.json")
            self._own.pop(writer, None)
        except OSError as error:
            _say_once(str(cannot_be_written(self.folder, error)))
            self._own[writer] = Ledger(ledger.to_dict())
            with suppress(OSError):
                partial.unlink()

    def note(self, writer: str) -> NDArray[np.int64]:
        """Where a writer says what it reads: file number, first entry, one after the last.

        Writing costs next to nothing, and what is written outlives the process, however it ends.
        """
        try:
            return np.memmap(self.folder / f"{writer}.reading", np.int64, "w+", shape=(3,))
        except OSError:  # the reader is gone, or it will have to do without
            return np.zeros(3, np.int64)

    def read_note(self, pid: int) -> tuple[int, int, int] | None:
        """What the process read last: file number, first entry, one after the last.

        None if it has read nothing.
        """
        for path in sorted(self.folder.glob(f"{pid}-*.reading")):
            file, first, stop = np.fromfile(path, np.int64).tolist()
            if stop:
                return file, first, stop
        return None

    def read(self) -> Ledger:
        """The sum over all writers."""
        total = Ledger()
        for path in sorted(self.folder.glob("*.json")):
            if path.stem not in self._own:
                total.merge(Ledger(json.loads(path.read_text())))
        for own in self._own.values():
            total.merge(own)
        return total


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="hepdata-ledger-"))
    except OSError as error:
        _say_once(f"no folder for temporary files: {error.strerror}; TMPDIR names one")
        return NOWHERE


@cache
def _say_once(why: str) -> None:
    print(f"the ledger lacks what worker processes count: {why}", file=sys.stderr)


def _remove_if_owner(folder: Path, owner: int) -> None:
    # a forked worker inherits the finalizer and must leave the folder to its parent
    if os.getpid() == owner:
        rmtree(folder, ignore_errors=True)
