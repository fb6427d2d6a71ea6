"""Prepared columns of units in a folder: a file for each unit, found by this run and later ones.

The name of a file holds a checksum of all of its bytes, which is compared before the first value
of it is believed in a process. The folder that it lies in is named by all that decides the columns:
another content of the source file, other branches, cuts, expressions or entry ranges are another
name. Files appear whole, so that any number of processes may write and read.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import xxhash

from hepdata_adapters import __version__
from hepdata_adapters.common.core.cache import say_once
from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.text import size_text
from hepdata_adapters.common.core.writing import (
    cannot_be_written,
    cause_of,
    remove_partials,
    whole_file,
)
from hepdata_adapters.common.files.allowance import Allowance
from hepdata_adapters.common.files.baskets import check_offsets
from hepdata_adapters.common.files.column_store import FORMAT, check_arrow, packed, unpacked
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.unit_cache import UnitKey

UNITS = "units"
_FILE = re.compile(r"(?P<start>\d+)-(?P<stop>\d+)\.(?P<sum>[0-9a-f]{16})\.arrow")
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0)
_writing: set[Path] = set()  # by this process, whose threads would use one partial file
_writing_lock = Lock()


def _forked() -> None:
    """In a forked process: the threads that were writing are not here."""
    global _writing_lock
    _writing_lock = Lock()
    _writing.clear()


os.register_at_fork(after_in_child=_forked)


def entry_name(file: FileInfo, branches: tuple[str, ...]) -> str:
    """The name of all that decides the prepared columns of a file, but for the entry range.

    The file's content as it is here; the branches that are read; how they are prepared; the
    record that the values read are compared with, if they are; and who prepares them, as another
    version may do so otherwise.
    """
    needed = [file.branch(name) for name in file.preparation.needs(branches)]
    return digest(
        [
            FORMAT, __version__, np.__version__,
            file.content.here, file.tree, file.entries, digest(file.units.tolist()), branches,
            [[branch.name, branch.kind, branch.dtype, branch.size] for branch in needed],
            file.preparation.restricted(branches).model_dump(mode="json", exclude={"branches"}),
            str(file.record or ""),
        ]
    )[:32]  # fmt: skip


class _FullError(Exception):
    """There is no room for a file."""


@dataclass
class _Listed:
    """The files of a folder by their entry range, and when the folder was changed last."""

    changed: int = -1
    files: dict[tuple[int, int], str] = field(default_factory=dict)


class UnitFolder:
    """Columns of units on disk, up to a limit in bytes. Threads may share it.

    limit: None for half of the disk that is free or taken by the folder. Where it cannot be
    written, or is full, nothing more is kept: that is told, and ``stopped`` says why. tell: says
    it, and what was damaged; by default once a process.
    """

    in_memory = False

    def __init__(
        self, folder: Path, limit: int | None = None, tell: Callable[[str], object] = say_once
    ) -> None:
        check_arrow()
        self._tell = tell
        self.folder = folder.absolute()
        self._units = self.folder / UNITS
        self._limit = limit
        self._allowance: Allowance | None = None
        self._names: dict[tuple[tuple[str, ...], str, str], str] = {}
        self._listed: dict[Path, _Listed] = {}
        self._verified: set[tuple[Path, int, int, int]] = set()
        self._lock = Lock()
        self.stopped = ""

    @property
    def limit(self) -> int:
        """Bytes that all files together may have."""
        if self._limit is None:
            self._limit = (_free(self.folder) + self.used()) // 2
        return self._limit

    def get(self, key: UnitKey) -> Columns | None:
        path = self.path(key)
        if path is None:
            return None
        try:
            columns = self._read(path, key)
        except FileNotFoundError:  # somebody removed it
            self._forget(path)
            return None
        except OSError as error:
            self._say(f"cannot be read ({error.strerror or error})", path)
            return None
        if columns is None:
            self._say("was damaged", path)
            self._remove(path)
        return columns

    def keep(self, key: UnitKey, columns: Columns) -> bool:
        if self.path(key) is not None:  # another process was faster
            return True
        if self.stopped or not columns:
            return False
        content = packed(columns)
        start, stop = key.entries
        name = f"{start}-{stop}.{xxhash.xxh3_64_hexdigest(content)}.arrow"
        path = self._entry(key) / name
        with _writing_lock:
            if path in _writing:
                return True
            _writing.add(path)
        try:
            self._write(path, content)
        except _FullError:
            self._stop(
                f"holds {size_text(self.used())} of the {size_text(self.limit)} that it may: "
                f"raise reading.cache_limit, or remove it with what earlier runs left there"
            )
        except FileError as error:
            self._stop(str(cannot_be_written(self.folder, cause_of(error))))
        except OSError as error:
            self._stop(str(cannot_be_written(self.folder, error)))
        finally:
            with _writing_lock:
                _writing.discard(path)
        return not self.stopped

    def path(self, key: UnitKey) -> Path | None:
        """The file of a unit, if there is one."""
        folder, entries = self._entry(key), key.entries
        with self._lock:
            listed = self._listed.setdefault(folder, _Listed())
            name = listed.files.get(entries)
            if name is None:
                try:
                    changed = os.stat(folder).st_mtime_ns
                except OSError:
                    return None
                if changed != listed.changed:
                    self._listed[folder] = listed = _Listed(changed, dict(_files(folder)))
                    name = listed.files.get(entries)
        return None if name is None else folder / name

    def used(self) -> int:
        """Bytes of all files, those of other runs included; what dead processes left is removed."""
        total = 0
        with suppress(OSError):
            for entry in list(os.scandir(self._units)):
                with suppress(OSError):
                    remove_partials(Path(entry.path))
                    for file in os.scandir(entry.path):
                        with suppress(OSError):
                            total += file.stat().st_size
        return total

    def _entry(self, key: UnitKey) -> Path:
        file = key.file
        name = (key.branches, file.url, file.tree)
        if name not in self._names:
            self._names[name] = entry_name(file, key.branches)
        return self._units / self._names[name]

    def _read(self, path: Path, key: UnitKey) -> Columns | None:
        """The columns of a file, None if it is damaged. Raises OSError."""
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            state = os.fstat(handle)
            if not state.st_size:
                return None
            # private: what is written to an array is not written to the file
            flags, access = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
            memory = mmap.mmap(handle, state.st_size, flags, access)
        finally:
            os.close(handle)
        version = (path, state.st_ino, state.st_size, state.st_mtime_ns)
        known = version in self._verified
        if not known and xxhash.xxh3_64_hexdigest(memory) != path.name.split(".")[1]:
            return None
        try:
            columns = unpacked(memory)
            if not known:
                _check(columns, key)
        except (ValueError, KeyError, TypeError, IndexError, FileError):
            return None  # of the right checksum, but not written by us
        self._verified.add(version)
        return columns

    def _write(self, path: Path, content: memoryview) -> None:
        """Write a file, whole. Raises _FullError where the limit does not allow it."""
        if self._allowance is None:
            self._allowance = Allowance(self.folder / "taken", self.limit, self.used)
        with whole_file(path) as partial, partial.open("wb") as file:
            if not self._allowance.take(len(content), file):
                raise _FullError
            try:
                file.write(content)
            except OSError:
                self._allowance.give(len(content))
                raise

    def _forget(self, path: Path) -> None:
        with self._lock:
            self._listed.pop(path.parent, None)

    def _remove(self, path: Path) -> None:
        with suppress(OSError):
            size = path.stat().st_size
            path.unlink()
            if self._allowance:
                self._allowance.give(size)
        self._forget(path)

    def _stop(self, why: str) -> None:
        self.stopped = f"the cache {self.folder} {why}"
        self._tell(f"no more columns are kept for later epochs: {self.stopped}")

    def _say(self, what: str, path: Path) -> None:
        self._tell(
            f"a file of the cache {self.folder} {what}: the events of such files are read from "
            f"their source again"
        )


def _files(folder: Path) -> Iterator[tuple[tuple[int, int], str]]:
    """The files of a folder by their entry range."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if found := _FILE.fullmatch(entry.name):
                yield (int(found["start"]), int(found["stop"])), entry.name


def _check(columns: Columns, key: UnitKey) -> None:
    """Raise ValueError for what are not the columns of a unit."""
    start, stop = key.entries
    if tuple(columns) != key.branches:
        raise ValueError("it holds other columns")
    for column in columns.values():
        if len(column) != stop - start:
            raise ValueError(f"it holds {len(column)} events")
    lists = [column for column in columns.values() if isinstance(column, Jagged)]
    for column in {id(column.offsets): column for column in lists}.values():
        check_offsets(column.offsets, len(column.content))


def _free(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(there).free
