"""Where a model comes from: what was read, with which config and seeds, by which versions."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hepdata_adapters
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.events.split import strategy
from hepdata_adapters.common.stream.dataset import Dataset

_READING = ("numpy", "awkward", "uproot", "fsspec", "numba")
_TRAINING = {"torch": ("torch", "lightning"), "tf": ("tensorflow", "keras")}
GIT_SECONDS = 10


def provenance(config: RunConfig, prepared: Dataset, document: Mapping[str, Any]) -> dict[str, Any]:
    """What a run and its archives say of themselves: a JSON document.

    document: the config as the run keeps it. Files have the names under which they were read, and
    the identity of their content (see `Content`). Passwords and queries of URLs are left out.
    """
    samples = prepared.config.samples
    found = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git": git_state(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _versions(("hepdata-adapters", *_READING, *_TRAINING[config.framework])),
        "seeds": {
            "training": config.training.seed,
            "sampling": config.sampling.seed,
            "split": strategy(config.split).seed,
        },
        "specs": prepared.specs.hash,
        "config": dict(document),
        "files": [
            {
                "sample": samples[file.sample].name,
                "url": file.url,
                "tree": file.tree,
                "entries": file.entries,
                "bytes": file.content.size,
                "uuid": file.uuid,
                "content": file.content.digest,
                "state": file.content.state,
            }
            for file in prepared.manifest.files
        ],
    }
    cleaned: dict[str, Any] = _public(found)
    return cleaned


def git_state(folder: Path) -> dict[str, Any] | None:
    """The revision checked out in a folder, and whether tracked files differ from it.

    None where there is none: no git, no repository, nothing committed.
    """
    revision = _git(folder, "rev-parse", "--verify", "HEAD")
    if not revision:
        return None
    # no monitor of a repository is to be started for this
    changes = _git(folder, "-c", "core.fsmonitor=false", "status", "--porcelain", "-uno")
    return {"revision": revision, "changed": None if changes is None else bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 (fixed arguments)
            ["git", *arguments],  # noqa: S607 (the user's own)
            cwd=folder, capture_output=True, text=True,
            timeout=GIT_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a folder of its source
            if name == "hepdata-adapters":
                found[name] = hepdata_adapters.__version__
    return found


def _public(value: Any) -> Any:
    """The same document without the passwords and queries of its URLs.

    >>> _public(["root://ann:secret@host//a.root?authz=token:Events", {"n": 1}])
    ['root://host//a.root?…:Events', {'n': 1}]
    """
    if isinstance(value, Mapping):
        return {key: _public(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_public(inner) for inner in value]
    if not isinstance(value, str):
        return value
    value = re.sub(r"(\w://)[^/\s@]+@", r"\1", value)
    return re.sub(r"(\w://[^\s?]+\?)[^\s:]+", r"\1…", value)
