"""Files replaced in the middle of a pass, training processes killed, folders full or read-only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil

from benchmarks.damage.files import write
from hepdata_adapters.common.core.errors import HepDataError
from hepdata_adapters.torch import RootIterableDataset

_CONSUMER = """
import sys, time
from torch.utils.data import DataLoader
from hepdata_adapters.torch import RootIterableDataset

if __name__ == "__main__":
    dataset = RootIterableDataset({sys.argv[1]: 1}, batch_size=10, progress=False)
    for number, batch in enumerate(DataLoader(dataset, batch_size=None, num_workers=2)):
        if not number:
            print("first batch", flush=True)
        time.sleep(0.05)
"""


def replaced(folder: Path, kind: str, events: int = 40_000) -> dict[str, str]:
    """Replace the file after the first batches, by another of the same layout or size."""
    rows = {}
    for how in ("renamed onto it", "written in place", "cut short"):
        path = write(folder / "pass.root", kind, events)
        other = write(folder / "other.root", kind, events, seed=1)
        dataset = RootIterableDataset(
            {str(path): 1}, batch_size=100, progress=False, sampling={"chunk_size": 200}
        )
        batches = iter(dataset)
        next(batches)
        if how == "renamed onto it":
            other.replace(path)
        elif how == "written in place":
            path.write_bytes(_negated(path.read_bytes()))
        else:
            os.truncate(path, path.stat().st_size // 2)
        rows[how] = _end_of(lambda batches=batches: sum(len(b["x"]) for b in batches))
    return rows


def _negated(data: bytes) -> bytes:
    """The same file with other bits in the middle of its data."""
    changed = bytearray(data)
    middle = len(data) // 2
    changed[middle : middle + 1000] = bytes(255 - byte for byte in data[middle : middle + 1000])
    return bytes(changed)


def _end_of(work: Callable[[], object]) -> str:
    try:
        return f"delivered {work()}"
    except HepDataError as error:
        return f"error: {error}"
    except Exception as error:
        return f"foreign {type(error).__name__}: {error}"


def killed(folder: Path, seconds: float = 5.0) -> dict[str, str]:
    """Kill a process that reads with two workers, or a worker; what lives after ``seconds``."""
    path = write(folder / "killed.root", "TTree ZSTD", 40_000)
    script = folder / "consumer.py"
    script.write_text(_CONSUMER)
    rows = {}
    for victim, sent in (("parent", "SIGKILL"), ("parent", "SIGTERM"), ("worker", "SIGKILL")):
        process = subprocess.Popen(
            [sys.executable, str(script), str(path)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        family = []
        try:
            assert process.stdout is not None
            process.stdout.readline()
            children = psutil.Process(process.pid).children(recursive=True)
            family = [psutil.Process(process.pid), *children]
            leaves = [child for child in children if not child.children()]
            target = process.pid if victim == "parent" else leaves[-1].pid
            os.kill(target, getattr(signal, sent))
            time.sleep(seconds)
            process.poll()
            left = [one for one in family if one.is_running() and one.status() != "zombie"]
            memory = sum(one.memory_info().rss for one in left) / 2**20
            rows[f"{victim} {sent}"] = f"{len(left)} of {len(family)} alive, {memory:.0f} MiB"
        finally:
            for one in family:
                if one.is_running():
                    one.kill()
            process.kill()
            process.wait()
    return rows


def folders(folder: Path) -> dict[str, str]:
    """A first pass whose cache folder is full, read-only, or a file."""
    path = write(folder / "folders.root", "TTree ZSTD")
    rows = {}
    before = os.environ.get("HEPDATA_CACHE")
    try:
        for what, make in (("full", _full), ("read-only", _read_only), ("a file", _file)):
            with make(folder / what.replace(" ", "-")) as cache:
                if cache is None:
                    rows[what] = "skipped: needs root on Linux"
                    continue
                os.environ["HEPDATA_CACHE"] = str(cache)
                rows[what] = _end_of(
                    lambda: len(np.concatenate([b["x"] for b in RootIterableDataset(
                        {str(path): 1}, batch_size=100, progress=False)]))
                )  # fmt: skip
    finally:
        os.environ.pop("HEPDATA_CACHE", None)
        if before is not None:
            os.environ["HEPDATA_CACHE"] = before
    return rows


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[Path | None]:
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    try:
        yield place if done else None
    finally:
        if done:
            subprocess.run(["umount", str(place)], check=False)


@contextmanager
def _full(place: Path) -> Iterator[Path | None]:
    with _mounted(place, "size=64k") as mounted:
        if mounted:
            with suppress(OSError):
                (mounted / "filler").write_bytes(bytes(2**20))
        yield mounted


@contextmanager
def _read_only(place: Path) -> Iterator[Path | None]:
    with _mounted(place, "size=64k,ro") as mounted:
        yield mounted


@contextmanager
def _file(place: Path) -> Iterator[Path]:
    place.write_text("no folder")
    yield place
