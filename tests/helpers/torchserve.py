"""What the tests with a real TorchServe share."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hepdata_serving.answers import predict_events
from hepdata_serving.errors import JavaError
from hepdata_serving.torchserve.java import find_java
from hepdata_serving.torchserve.processes import live_members
from tests.helpers.torchserve_example import ExampleScorer, eager, example_transform

SERVE = (
    "import sys; from hepdata_serving.torchserve.server import serve; "
    "sys.exit(serve(sys.argv[1], int(sys.argv[2])))"
)


def why_not() -> str | None:
    """Why no TorchServe can run here."""
    if importlib.util.find_spec("ts") is None:
        return "torchserve is not installed"
    try:
        find_java()
    except JavaError as error:
        return str(error)
    return None


needs_torchserve = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def offline(events: list[dict[str, Any]], classes: int = 1, seed: int = 0) -> Any:
    """What the model of `export_example` predicts."""
    transform = example_transform()
    scorer = ExampleScorer(transform.num_features, classes, seed)
    return np.array(predict_events(events, transform, eager(scorer)))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """``serve`` of a folder at a free port, as a process of its own."""
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), "0"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def own_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that nobody else uses, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as caches:
        # torch makes this one at the first export of a process, else below TMPDIR
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", caches)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def line_within(stream: Any, seconds: float) -> str:
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(stream.readline()), daemon=True).start()
    return lines.get(timeout=seconds)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def listening(group: int) -> set[tuple[str, int]]:
    """Addresses on which the processes of a group listen."""
    found: set[tuple[str, int]] = set()
    for pid in live_members(group):
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(pid).net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port))
    return found
