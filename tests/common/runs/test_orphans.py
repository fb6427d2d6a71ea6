"""Killed and terminated parents: whatever they started ends within seconds, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.samples import write_events

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 10

LOADER = """
import sys
from multiprocessing.synchronize import SemLock
from torch.utils.data import DataLoader
from hepdata_adapters.torch import RootIterableDataset

names = []
make = SemLock._make_name
def noted():
    names.append("sem." + make()[1:])
    return "/" + names[-1][4:]
SemLock._make_name = staticmethod(noted)

if __name__ == "__main__":
    start, path = sys.argv[1:]
    options = {"features": ["MET"], "batch_size": 16, "progress": False, "repeat": True}
    dataset = RootIterableDataset(path, **options)
    if start == "ours":
        loader = dataset.loader(num_workers=2)
    else:
        loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=start)
    batches = iter(loader)
    next(batches)
    print(*names, flush=True)
    sys.stdin.read()
"""

SPECS = """
import sys
from hepdata_adapters import Sample, DatasetConfig, compute_specs

def told(done, total):
    print("reading", flush=True)
    sys.stdin.read()

if __name__ == "__main__":
    samples = [Sample(files=sys.argv[2])]
    compute_specs(DatasetConfig(samples=samples, features=["MET"]), told, processes=2)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("orphans") / "events.root", 600, 0, step=50)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def check_end(started: list[psutil.Process]) -> None:
    deadline = time.monotonic() + SECONDS
    try:
        while alive(started) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(started)
    finally:
        for process in alive(started):
            process.kill()


@pytest.mark.parametrize(
    ("script", "start", "end"),
    [
        (LOADER, "ours", signal.SIGKILL),
        (LOADER, "ours", signal.SIGTERM),
        (LOADER, "forkserver", signal.SIGKILL),
        (LOADER, "fork", signal.SIGKILL),
        (SPECS, "pool", signal.SIGKILL),
    ],
    ids=["ours-kill", "ours-term", "forkserver", "fork", "specs"],
)
def test_all_that_a_process_started_ends_with_it(file, tmp_path, script, start, end):
    path = tmp_path / "script.py"
    path.write_text(script)
    with subprocess.Popen(
        [sys.executable, path, start, file], env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as parent:  # fmt: skip
        semaphores = parent.stdout.readline().split()
        assert semaphores
        started = psutil.Process(parent.pid).children(recursive=True)
        assert len(started) >= 2
        parent.send_signal(end)
        check_end(started)
    left = os.listdir("/dev/shm")
    assert not set(left).intersection(semaphores)
    assert not [n for p in started for n in left if n.startswith(f"torch_{p.pid}_")]


def test_a_terminated_fit_leaves_its_ledger_and_nobody_behind(file, tmp_path):
    other, config = write_events(tmp_path / "other.root", 600, 1), tmp_path / "config.yaml"
    config.write_text(
        f"samples: [{{files: {file}, label: 1}}, {{files: {other}, label: 0}}]\n"
        "features: [MET]\ntraining: {epochs: 100000, patience: 100000, workers: 1}\n"
    )
    command = [sys.executable, "-m", "hepdata_adapters", "fit", config, "-o", tmp_path / "run"]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        said: list[str] = []
        while not said or not said[-1].startswith("epoch 1/"):
            said.append(parent.stderr.readline())
            assert said[-1], said
        started = psutil.Process(parent.pid).children(recursive=True)
        assert started
        parent.terminate()
        rest = parent.stderr.read()
        assert parent.wait(60) == 128 + signal.SIGTERM
    assert f"stopped by SIGTERM; to go on: hepdata-adapters fit --resume {tmp_path}" in rest
    assert "Traceback" not in rest
    check_end(started)
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())["training"]
    assert sum(ledger["events delivered"].values()) > 300
