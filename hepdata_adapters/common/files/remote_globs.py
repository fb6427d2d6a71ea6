"""Patterns in URLs: the files that a server lists."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files.globs import Bound

LISTS = ("root", "xroot", "s3")
"""Protocols whose servers list directories; those of HTTP do not."""


def is_remote_pattern(url: str) -> bool:
    """Whether the path of a URL is a pattern; a query is none.

    >>> is_remote_pattern("root://host//data/*.root"), is_remote_pattern("https://a/b.root?x=1")
    (True, False)
    """
    path = urlsplit(url).path
    return glob.has_magic(path.replace("?", ""))


def expand_remote(url: str) -> list[str]:
    """The files that a pattern in a URL matches, sorted.

    Raises FileError where the protocol has no directories, where the server does not list them,
    where there are more names to look at than `globs.MOST_NAMES`, and where nothing matches.
    """
    protocol = url.split("://", 1)[0]
    if protocol not in LISTS:
        raise FileError(
            f"a pattern needs a server that lists its directories, and {protocol} has no such "
            f"thing: name each file",
            file=url,
        )
    found = sorted(set(_listed(url, protocol)))
    if not found:
        raise FileError("no file on the server matches this pattern", file=url)
    return found


def _listed(url: str, protocol: str) -> list[str]:
    import fsspec

    system: Any
    # one of its own: what it remembers of a directory would be believed by those who read
    system, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    try:
        if protocol == "s3":
            return [f"s3://{name}" for name in system.glob(path)]
        parts = [part for part in path.split("/") if part]
        host = urlsplit(url).netloc
        return [f"{protocol}://{host}/{found}" for found in _walk(system, Bound(url), "", parts)]
    except FileNotFoundError:
        return []
    except FileError:
        raise
    except Exception as error:  # those of the client of this protocol
        reason = " ".join(str(error).split())[:300]
        if "[3011]" in reason:  # XRootD's way to say that there is no such directory
            return []
        raise FileError(
            f"the server does not list the directory of this pattern ({reason}): name each file",
            file=url,
        ) from error


def _walk(system: Any, bound: Bound, folder: str, parts: list[str]) -> Iterator[str]:
    """The files below ``folder`` that the parts of a path match, ``**`` any number of folders."""
    first, *rest = parts
    if first == "**" and rest:
        yield from _walk(system, bound, folder, rest)
    elif rest and not glob.has_magic(first):
        yield from _walk(system, bound, f"{folder}/{first}", rest)
        return
    system.dircache.clear()
    for entry in system.ls(folder or "/", detail=True):
        bound.count()
        name = entry["name"].rsplit("/", 1)[-1]
        is_folder = entry["type"] == "directory"
        if first == "**" and rest and is_folder:
            yield from _walk(system, bound, f"{folder}/{name}", parts)
        elif first != "**" and fnmatchcase(name, first) and is_folder == bool(rest):
            if rest:
                yield from _walk(system, bound, f"{folder}/{name}", rest)
            else:
                yield f"{folder}/{name}"
