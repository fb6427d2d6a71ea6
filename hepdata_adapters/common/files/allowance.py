"""How many bytes a folder that several processes write to may hold.

A file in it says what was taken so far; who wants more changes it under a lock before writing. A
process that dies has taken what it did not write, and files are removed by hand: so what is there
is counted anew before anything is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_DIGITS = 32


class Allowance:
    """Bytes that may be written to a folder. Processes and threads may share it.

    count: bytes that are there, which takes a while.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> allowance = Allowance(folder / "taken", 100, lambda: 60)
    >>> with (folder / "a").open("wb") as file:
    ...     allowance.take(30, file), allowance.take(30, file)
    (True, True)
    >>> with (folder / "b").open("wb") as file:
    ...     allowance.take(50, file)
    False
    """

    def __init__(self, path: Path, limit: int, count: Callable[[], int]) -> None:
        self._path, self.limit, self._count = path, limit, count
        self._counted = False

    def take(self, size: int, file: BinaryIO) -> bool:
        """Whether so many bytes may be written to an empty file, which then counts as so long.

        Raises OSError where nothing can be written.
        """
        with self._taken() as book:
            text = os.pread(book, _DIGITS, 0).strip()
            taken = int(text) if text.isdigit() else 0
            if not self._counted:  # files may have been copied to the folder
                taken, self._counted = max(taken, self._count()), True
            if taken + size > self.limit:
                taken = self._count()
            fits = taken + size <= self.limit
            if fits:
                os.ftruncate(file.fileno(), size)
            self._write(book, taken + size * fits)
            return fits

    def give(self, size: int) -> None:
        """So many bytes were not written, or were removed."""
        with suppress(OSError, ValueError), self._taken() as book:
            self._write(book, max(0, int(os.pread(book, _DIGITS, 0)) - size))

    @contextmanager
    def _taken(self) -> Iterator[int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        book = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            with suppress(OSError):  # a file system without locks: then two may take the same
                fcntl.flock(book, fcntl.LOCK_EX)
            yield book
        finally:
            os.close(book)

    def _write(self, book: int, taken: int) -> None:
        # one write of one block: a process that is killed leaves the old number or the new one
        os.pwrite(book, f"{taken:<{_DIGITS}}".encode(), 0)
