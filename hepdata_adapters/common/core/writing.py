"""Writing files: whole or not at all, with errors that say what to do.

A file is written under another name beside its own, and renamed when it is complete and on the
disk. What a process that died left of that is removed by the next one that writes to the folder.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.core.hashing import key

SECONDS_OLD = 24 * 3600
_PARTIAL = re.compile(r"\..+\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)\.partial")
_ADVICE = {
    errno.ENOSPC: "there is no space left: free some, or write elsewhere",
    errno.EDQUOT: "your quota is used up: free some space, or write elsewhere",
    errno.EROFS: "the file system is read-only: write elsewhere",
    errno.EACCES: "you may not write there: write elsewhere, or change its permissions",
    errno.EPERM: "you may not write there: write elsewhere, or change its permissions",
    errno.ENOTDIR: "a file is in the place of a folder: name another place",
    errno.EEXIST: "a file is in the place of a folder: name another place",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EFBIG: "files may not be so large there: write elsewhere",
    errno.EIO: "the disk reports a fault: write elsewhere",
    errno.ESTALE: "the server of the folder has lost it: try again, or write elsewhere",
    errno.ENOENT: "the folder has gone: make it again, or write elsewhere",
}


def cannot_be_written(path: str | Path, error: OSError) -> FileError:
    """The error for a path that the system refuses to write.

    >>> print(cannot_be_written(Path("a.json"), OSError(errno.ENOSPC, "")))
    cannot be written: there is no space left: free some, or write elsewhere [file a.json]
    """
    reason = _ADVICE.get(error.errno or 0) or error.strerror or str(error)
    return FileError(f"cannot be written: {reason}", file=str(path))


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write what is to become ``path`` when the block ends without an error.

    The folder is made if need be; an existing file stays until then; an error leaves nothing.
    Raises FileError for whatever the system refuses.
    """
    partial = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(path.parent)
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        if error.errno not in _ADVICE:  # of something else that the block does
            raise
        raise cannot_be_written(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file at once: see `whole_file`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "a.txt"
    >>> write_whole(path, "text")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('text', 1)
    """
    with whole_file(Path(path)) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def check_writable(path: Path) -> None:
    """Raise FileError unless ``path`` can be written: to know it before the work, not after it."""
    if path.is_dir():
        raise cannot_be_written(path, IsADirectoryError(errno.EISDIR, ""))
    probe = _partial(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_partials(path.parent)
        probe.write_bytes(b"\0")  # a full disk lets one make a file, and write nothing to it
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Raise FileError unless files can be written to this folder, which is made if need be."""
    try:
        check_writable(folder / "probe")
    except FileError as error:
        raise cannot_be_written(folder, cause_of(error)) from error


def remove_partials(folder: Path) -> None:
    """Remove what processes that died were writing to a folder."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _PARTIAL.fullmatch(entry.name)]
    for name in names:
        with suppress(OSError):
            if _abandoned(folder / name):
                (folder / name).unlink()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name[:50]}.{_host()}-{os.getpid()}.partial")


def _abandoned(path: Path) -> bool:
    """Whether nobody writes the file any more: its process is gone, or it is a day old."""
    found = _PARTIAL.fullmatch(path.name)
    if found and found["host"] == _host() and not _exists(int(found["pid"])):
        return True
    return time.time() - path.stat().st_mtime > SECONDS_OLD


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's
        return True
    return True


@cache
def _host() -> str:
    """This machine, for folders that several share: a process number says nothing elsewhere."""
    return f"{key(socket.gethostname()) & 0xFFFFFFFF:08x}"


def cause_of(error: FileError) -> OSError:
    """What the system said, of an error of this module."""
    return error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error))
