"""Inputs are made once: into a folder whose name says what is in it, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import platformdirs
import uproot

from benchmarks.speed import generate
from benchmarks.speed.workloads import Inputs

GENERATOR = Path(generate.__file__)
_NOTE = "inputs.json"  # written last: the folder is whole


class InputsError(RuntimeError):
    """Inputs could not be made."""


def default_folder() -> Path:
    """Where inputs and results are kept between runs."""
    return Path(platformdirs.user_cache_dir("hepdata-adapters")) / "benchmark"


def paths_of(inputs: Inputs, folder: Path) -> list[Path]:
    """The files, made or not."""
    place = folder / f"{inputs.name}-{_hash(inputs)[:12]}"
    return [place / f"{inputs.shape}{number}.root" for number in range(inputs.files)]


def made(inputs: Inputs, folder: Path) -> bool:
    """Whether all files are there."""
    paths = paths_of(inputs, folder)
    note = paths[0].parent / _NOTE
    try:
        sizes = json.loads(note.read_text())["sizes"]
        return bool([path.stat().st_size for path in paths] == sizes)
    except (OSError, ValueError, KeyError):
        return False


def make(
    inputs: Inputs, folder: Path, root_python: str | None, tell: Callable[[str], None]
) -> list[Path]:
    """Make the files that are not there yet. Raises InputsError if ROOT is needed and fails."""
    paths = paths_of(inputs, folder)
    if made(inputs, folder):
        return paths
    place = paths[0].parent
    place.mkdir(parents=True, exist_ok=True)
    tell(f"making {inputs.name} in {place}")
    if inputs.shape == "wide":
        _write_wide(inputs, paths[0])
    elif root_python is None:
        raise InputsError(f"{inputs.name} is written by real ROOT, of which there is no Python")
    else:
        command = [
            root_python, str(GENERATOR), inputs.shape, str(place), "--files", str(inputs.files),
            "--events", str(inputs.events), "--format", inputs.format,
            "--compression", inputs.compression,
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                tell(line.rstrip())
            errors = process.stderr.read()
        if process.returncode:
            raise InputsError(f"{' '.join(command)} failed:\n{errors.strip()[-2000:]}")
    note = {"inputs": asdict(inputs), "sizes": [path.stat().st_size for path in paths]}
    part = place / f".{_NOTE}.{os.getpid()}"
    part.write_text(json.dumps(note, indent=1))
    os.replace(part, place / _NOTE)
    return paths


def _hash(inputs: Inputs) -> str:
    """Of the parameters and of the script that makes them: others are others' files."""
    text = json.dumps(asdict(inputs), sort_keys=True).encode() + GENERATOR.read_bytes()
    return hashlib.sha256(text).hexdigest()


def _write_wide(inputs: Inputs, path: Path) -> None:
    """10 flat columns in clusters, or baskets, of ``cluster`` entries, by uproot."""
    random = np.random.default_rng(0)
    floats = {"event_id": np.arange(inputs.events, dtype=np.float32)} | {
        f"flat{number}": random.normal(size=inputs.events).astype(np.float32)
        for number in range(1, 10)
    }
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with uproot.recreate(part, compression=uproot.ZSTD(5)) as file:
            for start in range(0, inputs.events, inputs.cluster):
                rows = {
                    name: values[start : start + inputs.cluster]
                    for name, values in floats.items()
                }  # fmt: skip
                if start:
                    file["Events"].extend(rows)
                elif inputs.format == "RNTuple":
                    file["Events"] = rows
                else:
                    file.mktree("Events", dict.fromkeys(rows, "float32"))
                    file["Events"].extend(rows)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
