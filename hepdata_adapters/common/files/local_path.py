"""Paths as people write them: what a shell would have made of them, and what is no file."""

from __future__ import annotations

import os
from pathlib import Path

from hepdata_adapters.common.core.errors import FileError


def spelt_out(name: str) -> str:
    """A path with ``~`` and variables of the environment expanded, unless it exists as it is.

    >>> spelt_out("~/*.root") == os.path.expanduser("~") + "/*.root"
    True
    """
    if os.path.exists(name):  # False, too, for what no path can be
        return name
    return os.path.expandvars(os.path.expanduser(name))


def check_file(name: str) -> None:
    """Raise FileError, saying what to write, for a path that is no ROOT file."""
    path = Path(name.removeprefix("file://"))
    if path.is_dir():
        raise FileError(
            f"this is a folder: write its files, as {name.rstrip('/')}/*.root", file=name
        )
    if not path.is_file():
        hint = ""
        if "{" in name:
            hint = "; braces are the shell's: write a list of files, or a pattern with *, ? or [12]"
        elif name.startswith("$") or "/$" in name:
            hint = "; the environment has no such variable"
        raise FileError(f"no such file{hint}", file=name)
    with path.open("rb") as stream:
        start = stream.read(4)
    if len(start) == 4 and start != b"root":
        hint = "; a list of files is a YAML list" if path.suffix in (".txt", ".list") else ""
        raise FileError(f"not a ROOT file{hint}", file=name)
