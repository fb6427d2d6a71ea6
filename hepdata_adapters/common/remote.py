"""Opening ROOT files by path or URL, with errors that say what to do.

Anything that uproot and fsspec open works: local paths, ``root://`` (extra ``xrootd``),
``http(s)://`` servers with range requests, ``s3://`` (extra ``s3``).
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import Any

from hepdata_adapters.common.errors import (
    ConfigError,
    DataError,
    FileError,
    HepDataError,
    MissingExtraError,
)

_EXTRAS = {"root": ("fsspec_xrootd", "xrootd"), "s3": ("s3fs", "s3")}

# After a server restart the client's own defaults block for minutes; with these a read goes on
# after a few seconds. They must stand before XRootD is imported, in every process.
_XROOTD_DEFAULTS = {
    "XRD_CONNECTIONWINDOW": "5",
    "XRD_CONNECTIONRETRY": "10",
    "XRD_TIMEOUTRESOLUTION": "1",
    "XRD_STREAMTIMEOUT": "10",
    "XRD_STREAMERRORWINDOW": "1",
    "XRD_RUNFORKHANDLER": "1",
}


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
    """The files of a path, glob or URL, sorted; URLs and plain paths are taken as they are.

    Raises FileError if a glob matches nothing.
    """
    if is_remote(name) or not glob.has_magic(name) or Path(name).exists():
        return [name]
    found = sorted(glob.glob(name, recursive=True))
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
    elif not Path(url.removeprefix("file://")).is_file():
        raise FileError("no such file", file=url)
    with reading(file=url):
        directory = uproot.open(url)
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
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, HepDataError) or not isinstance(error, Exception):
            return
        if isinstance(error, MemoryError):
            return
        reason = " ".join(str(error).split()).split(" for file path ")[0][:300]
        if "not a ROOT file" in reason:
            raise FileError("not a ROOT file", **self.place) from error
        name = type(error).__name__
        raise FileError(
            f"cannot be read, truncated or corrupt? ({name}: {reason})", **self.place
        ) from error


def _require_protocol(url: str) -> None:
    protocol = url.split("://", 1)[0]
    if protocol == "root":
        for name, value in _XROOTD_DEFAULTS.items():
            os.environ.setdefault(name, value)
    module, extra = _EXTRAS.get(protocol, ("fsspec", "all"))
    try:
        __import__(module)
    except ImportError:
        raise MissingExtraError(module, extra) from None
    import fsspec

    if protocol not in fsspec.available_protocols():
        raise ConfigError(f"unknown protocol {protocol!r} in {url!r}")


__all__ = ["DataError", "expand", "is_remote", "open_root", "reading", "split_tree"]
