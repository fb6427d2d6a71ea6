"""Open files as uproot reads them: one handle each, that notices when the file becomes another.

A file may be replaced while it is read (a skim written again), or overwritten in place. A local
file is read through one descriptor, so that all that is read is of one content; of a remote one
each answer is compared with the first, or the server is asked from time to time.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from uproot.source.chunk import Chunk, Source
from uproot.source.fsspec import FSSpecSource
from uproot.source.futures import TrivialFuture

ASK_SECONDS = 15.0
Range = tuple[int, int]


class LocalSource(Source):  # type: ignore[misc]
    """A file of this machine, by one descriptor for as long as it is open.

    Not memory-mapped: a file that is cut short in the middle of a read would end the process.
    """

    def __init__(self, file_path: str, **_: Any) -> None:
        super().__init__()
        self._file_path = file_path.removeprefix("file://")
        self._file = os.open(self._file_path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        # readers that nobody closes, such as those of an iterator left in its middle, end so
        self._close = weakref.finalize(self, os.close, self._file)
        self._opened = os.fstat(self._file)
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """When it was modified, in nanoseconds."""
        return str(self._opened.st_mtime_ns)

    def change(self, *, ask: bool = True) -> str:
        """What became of the file since it was opened, empty if nothing did."""
        now = os.fstat(self._file)
        if (now.st_mtime_ns, now.st_size) != (self._opened.st_mtime_ns, self._opened.st_size):
            return _modified(self._opened, now)
        try:
            there = os.stat(self._file_path)
        except OSError:
            return "it is no longer there"
        if (there.st_dev, there.st_ino) != (now.st_dev, now.st_ino):
            return _modified(self._opened, there)
        return ""

    def chunk(self, start: int, stop: int) -> Any:
        self._num_requests += 1
        return self._chunk(start, stop)

    def chunks(self, ranges: list[Range], notifications: queue.Queue[Any]) -> list[Any]:
        self._num_requests += 1
        found = [self._chunk(start, stop) for start, stop in ranges]
        for chunk in found:
            notifications.put(chunk)
        return found

    def _chunk(self, start: int, stop: int) -> Any:
        self._num_requested_chunks += 1
        self._num_requested_bytes += stop - start
        return Chunk(self, start, stop, TrivialFuture(self._read(start, stop - start)))

    def _read(self, start: int, size: int) -> bytes:
        if self.closed:  # the number of its descriptor may be another file's by now
            raise OSError("the file is closed")
        if start < 0 or size < 0:
            raise OSError(f"bytes {start} to {start + size} are none of a file")
        size = min(size, max(0, self.num_bytes - start))  # no memory for what is not there
        parts: list[bytes] = []
        while size and (part := self._part(start, size)):
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _part(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):  # at no shared position: a forked process has the descriptor, too
            return os.pread(self._file, size, start)
        with self._lock:
            os.lseek(self._file, start, os.SEEK_SET)
            return os.read(self._file, size)

    def read_into(self, start: int, room: memoryview) -> None:
        """Fill ``room`` with the bytes from ``start`` on. Raises OSError where they are fewer."""
        if self.closed:
            raise OSError("the file is closed")
        self._num_requests += 1
        self._num_requested_chunks += 1
        self._num_requested_bytes += len(room)
        while len(room):
            if hasattr(os, "preadv"):
                size = os.preadv(self._file, [room], start)
            else:
                part = self._part(start, len(room))
                size = len(part)
                room[:size] = part
            if not size:
                raise OSError(f"the file ends before byte {start + len(room)}")
            start, room = start + size, room[size:]

    @property
    def num_bytes(self) -> int:
        return self._opened.st_size

    @property
    def closed(self) -> bool:
        return not self._close.alive

    def __enter__(self) -> LocalSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class RemoteSource(FSSpecSource):  # type: ignore[misc]
    """A file behind a URL, through fsspec."""

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__(file_path, **options)
        hook = options.get("client_kwargs", {}).get("raise_for_status")
        self._answers = hook if isinstance(hook, SameContent) else None
        self._ready: dict[Range, Any] = {}
        self._asked = time.monotonic()
        # before the first byte; of HTTP later, as fsspec takes a server that is down for no file
        self._info: dict[str, Any] = {} if self._answers else self._fs.info(self._file_path)

    @property
    def _opened(self) -> dict[str, Any]:
        """What the server said of the file when it was opened."""
        self._info = self._info or self._fs.info(self._file_path)
        return self._info

    @property
    def state(self) -> str:
        """What the server says of the content: ETag or time; empty if it says nothing."""
        return self._answers.state if self._answers else _state(self._opened)

    @property
    def num_bytes(self) -> int | None:
        return self._opened.get("size")

    def change(self, *, ask: bool = True) -> str:
        """What became of the file since it was opened, empty if nothing did.

        Where each answer tells of its content, no further one is asked for unless ``ask``; of
        others, one in `ASK_SECONDS`.
        """
        if self._answers and self._answers.change:
            return self._answers.change
        if not ask and (self._answers or time.monotonic() - self._asked < ASK_SECONDS):
            return ""
        self._asked = time.monotonic()
        try:
            now = self._fs.info(self._file_path)
        except FileNotFoundError as error:  # what fsspec makes of all that HTTP servers answer
            if self._answers and self._answers.change:
                return self._answers.change
            gone = not self._answers or getattr(error.__cause__, "status", 0) in (404, 410)
            return "it is no longer there" if gone else ""
        before = (self._opened.get("size"), _state(self._opened))
        after = (now.get("size"), _state(now))
        return f"it was {_said(*before)}, it is {_said(*after)}" if before != after else ""

    @contextlib.contextmanager
    def ahead(self, ranges: Iterable[Range]) -> Iterator[None]:
        """Ask for all these ranges at once; inside, they are there when they are asked for."""
        wanted = sorted({(int(start), int(stop)) for start, stop in ranges})
        found = super().chunks(wanted, queue.Queue()) if wanted else []
        self._ready = dict(zip(wanted, found, strict=True))
        try:
            yield
        finally:
            self._ready = {}

    def chunks(self, ranges: list[Range], notifications: queue.Queue[Any]) -> list[Any]:
        ready = [self._ready.get((int(start), int(stop))) for start, stop in ranges]
        if not ready or any(chunk is None for chunk in ready):
            return super().chunks(ranges, notifications)  # type: ignore[no-any-return]
        for chunk in ready:
            notifications.put(chunk)
        return ready


class SameContent:
    """Looks at each answer of an HTTP server: it must be of the content that the first was of.

    For aiohttp's ``raise_for_status``.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], str] = {}
        self.state = self.change = ""

    async def __call__(self, response: Any) -> None:
        if response.ok:
            self._compare(response)
        if self.change:
            raise OSError(self.change)

    def _compare(self, response: Any) -> None:
        headers = response.headers
        said = {
            "ETag": headers.get("ETag", "").removeprefix("W/"),
            "Last-Modified": headers.get("Last-Modified", ""),
            "size": headers.get("Content-Range", "").partition("/")[2],
        }
        for name, value in said.items():
            # a server may compress what has no range, and give that another ETag
            first = self._first.setdefault((response.method, name), value)
            if value and first and value != first:
                self.change = self.change or f"its {name} was {first}, it is {value}"
        if response.method == "GET":
            self.state = self.state or said["ETag"] or said["Last-Modified"]


def _state(info: dict[str, Any]) -> str:
    """What a file system says of the content of a file; each has its own word for it."""
    names = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "Last-Modified", "updated")
    return next((str(info[name]).removeprefix("W/") for name in names if info.get(name)), "")


def _said(size: int | None, state: str) -> str:
    return ", ".join(([] if size is None else [f"{size:,} bytes"]) + ([state] if state else []))


def _modified(before: os.stat_result, after: os.stat_result) -> str:
    def said(found: os.stat_result) -> str:
        moment = datetime.fromtimestamp(found.st_mtime_ns / 1e9, UTC).isoformat(" ")
        return f"{found.st_size:,} bytes of {moment}"

    return f"it was {said(before)}, it is {said(after)}"
