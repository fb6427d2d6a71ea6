"""The files of a glob, as `glob.glob` finds them, in bounded time.

``**`` enters no folder that it is in already, so that a tree which contains itself ends, and a
pattern that searches a tree without end (``/proc/**``) is given up with the reason.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hepdata_adapters.common.core.errors import FileError

MOST_NAMES = 1_000_000
MOST_SECONDS = 120


def matches(pattern: str, names: int = MOST_NAMES, seconds: float = MOST_SECONDS) -> list[str]:
    """The paths that match, sorted; with ``**`` for any folders at all.

    Raises FileError where more names are to be looked at, or for longer: what there is in a tree
    without end cannot be known.

    >>> matches("/no such folder/*.root")
    []
    """
    search = _Search(Bound(pattern, names, seconds))
    root, *parts = _parts(pattern)
    return sorted(dict.fromkeys(search.below(root, parts)))


def _parts(pattern: str) -> list[str]:
    """Where to start, then a pattern for each folder below."""
    path = Path(pattern)
    return [path.anchor, *path.parts[1:]] if path.anchor else ["", *path.parts]


class Bound:
    """Counts the names that a search looks at, and gives it up with a FileError."""

    def __init__(
        self, pattern: str, names: int = MOST_NAMES, seconds: float = MOST_SECONDS
    ) -> None:
        self._pattern, self._names = pattern, names
        self._seen, self._end = 0, time.monotonic() + seconds

    def count(self) -> None:
        """One more name."""
        self._seen += 1
        if self._seen > self._names or time.monotonic() > self._end:
            raise FileError(
                f"gave up on this pattern after {self._seen:,} names: is there an end to the "
                f"tree that it searches? Name a folder nearer to the files",
                file=self._pattern,
            )


class _Search:
    """One walk, which counts what it looks at."""

    def __init__(self, bound: Bound) -> None:
        self._bound = bound

    def below(self, folder: str, parts: list[str]) -> Iterator[str]:
        """The paths below a folder that match the parts."""
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._any_depth(folder, rest)
        elif not glob.has_magic(part):
            path = os.path.join(folder, part)
            if rest:
                yield from self.below(path, rest)
            elif os.path.lexists(path):
                yield path
        else:
            for entry in self._entries(folder):
                if _fits(entry.name, part):
                    path = os.path.join(folder, entry.name)
                    if not rest:
                        yield path
                    elif _is_folder(entry):
                        yield from self.below(path, rest)

    def _any_depth(self, folder: str, rest: list[str]) -> Iterator[str]:
        waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [(folder, ())]
        while waiting:
            here, above = waiting.pop()
            identity = _identity(here)
            if identity is None or identity in above:
                continue
            if rest:
                yield from self.below(here, rest)
            for entry in self._entries(here):
                if entry.name.startswith("."):
                    continue
                path = os.path.join(here, entry.name)
                if _is_folder(entry):
                    waiting.append((path, (*above, identity)))
                elif not rest:
                    yield path

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder or ".") as entries:
                for entry in entries:
                    self._bound.count()
                    yield entry
        except OSError:  # not to be read, or gone meanwhile: as glob has it
            return


def _fits(name: str, part: str) -> bool:
    return fnmatch.fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as links that lead to each other
        return False


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder or ".")
    except OSError:
        return None
    return found.st_dev, found.st_ino
