"""Opening ROOT files by path or URL, with errors that say what to do.

Anything that uproot and fsspec open works: local paths, ``root://`` (extra ``xrootd``),
``http(s)://`` servers with range requests, ``s3://`` (extra ``s3``). A process that reads
remote files may fork (the default of DataLoader workers on Linux): see `_ForkGuard`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import glob
import importlib
import os
import re
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hepdata_adapters.common.core.errors import (
    ConfigError,
    FileError,
    HepDataError,
    MissingExtraError,
)
from hepdata_adapters.common.files.baskets import DamagedError
from hepdata_adapters.common.files.globs import matches
from hepdata_adapters.common.files.http import UnansweredError, client_options
from hepdata_adapters.common.files.local_path import check_file, spelt_out
from hepdata_adapters.common.files.remote_globs import expand_remote, is_remote_pattern
from hepdata_adapters.common.files.root_classes import own_models, restore_classes

_EXTRAS = {"root": ("fsspec_xrootd", "xrootd"), "s3": ("s3fs", "s3")}

# After a server restart the client's own defaults block for minutes; with these a read goes on
# after a few seconds, and fails after half a minute where the server stays away. The client
# itself puts a variable that the user has set (XRD_STREAMTIMEOUT, …) before them.
_XROOTD_DEFAULTS = {
    "ConnectionWindow": 5,
    "ConnectionRetry": 4,
    "TimeoutResolution": 1,
    "StreamTimeout": 10,
    "StreamErrorWindow": 1,
    "RunForkHandler": 1,
}

FORK_SECONDS = 30


def split_tree(name: str) -> tuple[str, str | None]:
    """``file.root:tree`` to file and tree; the colons of URLs and ports stay where they are.

    >>> split_tree("root://host:1094//a/b.root:dir/Events")
    ('root://host:1094//a/b.root', 'dir/Events')
    >>> split_tree("a.root")
    ('a.root', None)
    """
    match = re.fullmatch(r"(.+?\.root(?:\?[^:]*)?):(.+)", name)
    return (match[1], match[2]) if match else (name, None)


def is_remote(url: str) -> bool:
    """Whether the name is a URL rather than a path."""
    return "://" in url and not url.startswith("file://")


def expand(name: str) -> list[str]:
    """The files of a path, URL or glob, sorted; plain paths and URLs are taken as they are.

    Raises FileError if a glob matches nothing, or the server of a URL cannot list its files.
    """
    if is_remote(name) and is_remote_pattern(name):
        _require_protocol(name)
        return expand_remote(name)
    if not is_remote(name):
        name = spelt_out(name)
    if is_remote(name) or not glob.has_magic(name) or Path(name).exists():
        return [name]
    found = matches(name)
    if not found:
        raise FileError("no file matches this pattern", file=name)
    return found


def open_root(url: str) -> Any:
    """Open a ROOT file: an uproot directory.

    Raises FileError for a file that is missing, truncated or not ROOT, and MissingExtraError
    where the URL needs a package that is not installed.
    """
    import uproot

    if is_remote(url):
        _require_protocol(url)
    else:
        with reading(file=url):
            check_file(url)
    from hepdata_adapters.common.files.handles import LocalSource, RemoteSource

    handler = RemoteSource if is_remote(url) else LocalSource
    with reading(file=url), _handles.opening(url) as opened:
        directory = opened(uproot.open(url, handler=handler, **_options(url)))
        size, end = directory.file.source.num_bytes, directory.file.fEND
        if size is not None and size < end:
            directory.close()
            raise FileError(f"file is truncated: {size:,} of {end:,} bytes", file=url)
        return directory


class reading:  # noqa: N801 (reads as a statement: ``with reading(file=url):``)
    """Turn whatever uproot, fsspec or a decompressor raises into a FileError with its place."""

    def __init__(self, **place: Any) -> None:
        self.place = place

    def __enter__(self) -> None:
        own_models()  # before a file can bring others

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        restore_classes(forget=error is not None)
        if error is None or isinstance(error, HepDataError) or not _is_fault(error):
            return
        if isinstance(error, MemoryError):
            raise FileError(
                "asks for more memory than there is: damaged, or units (clusters) too large "
                "for this machine", **self.place
            ) from error  # fmt: skip
        error = _unanswered(error) or error
        reason = " ".join(str(error).split()).split(" for file path ")[0][:300]
        if "not a ROOT file" in reason:
            raise FileError("not a ROOT file", **self.place) from error
        if isinstance(error, FileNotFoundError) or "[3011]" in reason:
            raise FileError("no such file", **self.place) from error
        what = "cannot be read, truncated or corrupt?"
        if is_network(error):
            what = "the server does not answer as it should"
            _forget(self.place.get("file", ""))
        # fsspec returns errors in the place of data, and uproot cannot slice them
        returned = re.fullmatch(r"'(\w+)' object is not subscriptable", reason)
        name = type(error).__name__
        reason = returned[1] if returned else f"{name}: {reason}" if reason else name
        if isinstance(error, UnansweredError | DamagedError):
            reason = str(error)
        raise FileError(f"{what} ({reason})", **self.place) from error


def _is_fault(error: BaseException) -> bool:
    # the panic of a library written in Rust (decompressors) is no Exception
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _unanswered(error: BaseException) -> UnansweredError | None:
    """The failed request behind an error: fsspec says of each that there is no such file."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnansweredError):
        cause = cause.__cause__
    return cause


def is_network(error: BaseException) -> bool:
    """Whether it was the server or the way to it, not the file."""
    package = type(error).__module__.split(".")[0]
    # the XRootD client has no exceptions of its own, only its levels in the text
    client = re.search(
        r"\[(ERROR|FATAL)\]|'(Client|Server|Socket)\w+Error' object is not", str(error)
    )
    return (
        package == "aiohttp"
        or isinstance(error, ConnectionError | TimeoutError | UnansweredError)
        or client is not None
    )


def _require_protocol(url: str) -> None:
    protocol = url.split("://", 1)[0]
    module, extra = _EXTRAS.get(protocol, ("fsspec", "all"))
    try:
        if protocol == "root":
            _import_xrootd()  # before fsspec_xrootd does
        importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(module, extra) from None
    import fsspec

    if protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
        raise ConfigError(f"unknown protocol {protocol!r} in {url!r}")
    if protocol == "root":
        _tame_xrootd()


def _options(url: str) -> dict[str, Any]:
    """What fsspec's file system for this URL is told."""
    if url.startswith(("http://", "https://")):
        from hepdata_adapters.common.files.handles import SameContent

        one_content = SameContent()  # of one file: its file system is not shared
        return {"client_kwargs": client_options(one_content), "skip_instance_cache": True}
    return {}


def _forget(url: str) -> None:
    """Drop the handle that fsspec-xrootd keeps: it may be broken, or of a file since replaced."""
    if url.startswith("root://"):
        import fsspec

        with contextlib.suppress(OSError, ValueError):
            file_system, path = fsspec.core.url_to_fs(url)
            file_system.invalidate_cache(path)


class _OpenHandles:
    """Which ``root://`` files this process has open.

    fsspec-xrootd has one handle a URL for all threads. What is opened gets a new one, unless
    another thread reads through the old: to close that one would break its reads.
    """

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._sources: dict[str, weakref.WeakSet[Any]] = {}

    @contextlib.contextmanager
    def opening(self, url: str) -> Iterator[Callable[[Any], Any]]:
        """Open one URL at a time; the function given notes the directory that was opened."""
        if not url.startswith("root://"):
            yield lambda directory: directory
            return
        with self._one:
            lock = self._locks.setdefault(url, threading.Lock())
            sources = self._sources.setdefault(url, weakref.WeakSet())
        with lock:
            in_use = [source for source in sources if not source.closed]
            if not in_use or in_use[0].change():  # a file since replaced is not to be read again
                _forget(url)

            def opened(directory: Any) -> Any:
                sources.add(directory.file.source)
                return directory

            yield opened

    def after_in_child(self) -> None:
        """Begin anew: the child shares no handle, and a lock may be held by nobody."""
        self.__init__()  # type: ignore[misc]


class _ForkGuard:
    """Holds fsspec's event loop, between two requests, while the process forks.

    Before a fork the XRootD client joins its threads while the forking thread has Python's
    lock (GIL). Should one of them have an answer to deliver, it waits for that lock, and both
    wait for ever. So nothing may be under way; a nap would not do, as other threads may read.
    The child needs no care: fsspec and the client begin anew in it.
    """

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._go = threading.Event()

    def before(self) -> None:
        self._one.acquire()
        fsspec_loops = sys.modules.get("fsspec.asyn")
        loop = fsspec_loops.loop[0] if fsspec_loops else None
        if loop is None or not loop.is_running() or _running_loop() is loop:
            return
        self._go = threading.Event()
        idle = threading.Event()
        asyncio.run_coroutine_threadsafe(self._hold(idle, self._go), loop)
        if not idle.wait(FORK_SECONDS):
            self._go.set()

    def after_in_parent(self) -> None:
        self._go.set()
        self._one.release()

    def after_in_child(self) -> None:
        self.__init__()  # type: ignore[misc]

    async def _hold(self, idle: threading.Event, go: threading.Event) -> None:
        while not go.is_set() and self._busy():
            await asyncio.sleep(0.001)
        idle.set()
        go.wait()  # blocks the loop, on purpose

    def _busy(self) -> bool:
        # fsspec-xrootd's task that closes files sleeps for ever; what it closes are tasks too
        names = {getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()}
        return bool(names - {"_hold", "_pruner"}) or any(
            _delivers(frame) for frame in sys._current_frames().values()
        )


def _delivers(frame: Any) -> bool:
    """Whether the thread is the client's, delivering an answer."""
    while frame.f_back:
        frame = frame.f_back
    return bool(frame.f_globals.get("__name__", "").startswith("XRootD."))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    with contextlib.suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def _import_xrootd() -> Any:
    """The XRootD client, whose libraries take their symbols from each other first.

    TensorFlow brings an OpenSSL of its own for all to see: a client imported after it would call
    that one, and crash (segmentation fault).
    """
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_LOCAL | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        return importlib.import_module("XRootD.client")
    finally:
        sys.setdlopenflags(flags)


@functools.cache
def _tame_xrootd() -> None:
    client = _import_xrootd()
    for name, value in _XROOTD_DEFAULTS.items():
        client.EnvPutInt(name, value)
    # at exit, before the client looks for its open files among all objects: torch's lazy names
    # warn of that
    atexit.register(warnings.filterwarnings, "ignore", ".*torch.distributed", FutureWarning)


_handles = _OpenHandles()
if hasattr(os, "register_at_fork"):
    _guard = _ForkGuard()
    os.register_at_fork(after_in_child=_handles.after_in_child)
    os.register_at_fork(
        before=_guard.before,
        after_in_parent=_guard.after_in_parent,
        after_in_child=_guard.after_in_child,
    )
