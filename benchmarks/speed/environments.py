"""A Python for each rival: given, found in ``.venv-NAME``, or made there once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.speed.systems import Environment

HOME = Path(__file__).resolve().parents[2]
"""The folder of the project."""
# nothing is compiled: --only-binary; the versions are those that the table is about
PACKAGES: dict[Environment, tuple[tuple[str, ...], ...]] = {
    "root": (("root==0.1a12", "numpy"),),
    "weaver": (
        ("--index-url", "https://download.pytorch.org/whl/cpu", "torch"),
        ("weaver-core==0.5.3",),
    ),
    "f9columnar": (
        ("--index-url", "https://download.pytorch.org/whl/cpu", "torch"),
        ("f9columnar==0.9.0",),
    ),
}
_PROBES: dict[Environment, str] = {
    "root": "import ROOT, numpy",
    "weaver": "import torch, weaver.utils.dataset",
    "f9columnar": "import torch, f9columnar.pipeline.dataloader",
}


class EnvironmentMissingError(RuntimeError):
    """There is no Python for a system, and none could be made."""


def python_of(
    name: Environment, given: str | None, tell: Callable[[str], None], *, make: bool = True
) -> str:
    """A Python that imports the system. Raises EnvironmentMissingError with the reason."""
    if name == "ours":
        return sys.executable
    if given:
        _probe(name, given)
        return given
    folder = HOME / f".venv-{name}"
    python = folder / "bin" / "python"
    if python.exists():
        try:
            _probe(name, str(python))
        except EnvironmentMissingError:
            if not make:
                raise
            shutil.rmtree(folder)  # an installation that was stopped
        else:
            return str(python)
    if not make:
        raise EnvironmentMissingError(f"there is no {folder}")
    tell(f"making {folder}: {' '.join(PACKAGES[name][-1])}")
    _run(sys.executable, "-m", "venv", str(folder))
    for packages in PACKAGES[name]:
        pip = (str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        _run(*pip, "--only-binary", ":all:", *packages)
    _probe(name, str(python))
    return str(python)


def _probe(name: Environment, python: str) -> None:
    _run(python, "-c", _PROBES[name])


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentMissingError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise EnvironmentMissingError(f"{' '.join(command)}: {last}")
