"""Killed workers: an error that says what was read, nothing left behind, and on it goes."""

from __future__ import annotations

import gc
import os
import signal
from itertools import islice
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hepdata_adapters.common.core.errors import WorkerError
from hepdata_adapters.common.core.ledger import SharedLedger
from hepdata_adapters.torch import RootIterableDataset, RootLoader
from tests.helpers.samples import write_events


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("death")
    return [write_events(folder / f"{n}.root", 600, n, step=50) for n in range(2)]


def loader_of(files: list[Path], **options: Any) -> RootLoader:
    return RootIterableDataset(
        [str(path) for path in files], features=["MET", "Jet_pt"], batch_size=16, progress=False,
        sampling={"chunk_size": 40},
    ).loader(**options)  # fmt: skip


def frozen(batches: Any) -> list[dict[str, bytes]]:
    return [{name: values.numpy().tobytes() for name, values in batch.items()} for batch in batches]


def pids_of(loader: RootLoader) -> list[int]:
    return [worker.pid for worker in loader._iterator._workers]


@pytest.fixture
def semaphores(monkeypatch) -> list[str]:
    """Names of the semaphores that this process makes, as files in shared memory."""
    names: list[str] = []
    make_name = SemLock._make_name

    def noted() -> str:
        names.append(f"sem.{make_name()[1:]}")
        return f"/{names[-1][4:]}"

    monkeypatch.setattr(SemLock, "_make_name", staticmethod(noted))
    return names


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_worker_is_named_with_what_it_read_and_the_rest_is_ended(
    files, number, semaphores
):
    whole = frozen(loader_of(files))
    loader = loader_of(files, num_workers=2)
    passing = iter(loader)
    found = frozen(islice(passing, 5))
    pids = pids_of(loader)
    os.kill(pids[number], signal.SIGKILL)
    place = r"it last read entries \d+ to \d+ of tree Events in \S+\.root"
    message = rf"worker {number} of 2 \(pid {pids[number]}\) was killed by SIGKILL; {place}"
    with pytest.raises(WorkerError, match=message) as caught:
        found.extend(frozen([batch])[0] for batch in passing)
    state = loader.state_dict()
    assert "load_state_dict" in str(caught.value)
    assert all(ended(pid) for pid in pids)
    assert state["batches"] == len(found) < len(whole)

    fresh = loader_of(files, num_workers=1)
    fresh.load_state_dict(state)
    assert found + frozen(fresh) == whole
    loader.load_state_dict(state)
    assert found + frozen(loader) == whole, "the same loader starts new workers"

    del caught, passing, fresh, loader
    gc.collect()
    left = set(os.listdir("/dev/shm"))
    assert semaphores
    assert not left.intersection(semaphores)
    assert not [name for name in left if name.startswith(tuple(f"torch_{pid}_" for pid in pids))]


def test_a_worker_killed_between_two_passes_is_found_by_the_next(files):
    loader = loader_of(files, num_workers=1)
    assert len(list(loader)) == len(loader)
    state = loader.state_dict()
    [pid] = pids_of(loader)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"worker 0 of 1 .* was killed by SIGKILL"):
        next(iter(loader))
    loader.load_state_dict(state)
    other = loader_of(files)
    other.set_epoch(1)
    assert frozen(loader) == frozen(other)


def test_a_worker_leaves_ctrl_c_to_its_parent(files):
    whole = frozen(loader_of(files))
    loader = loader_of(files, num_workers=1)
    passing = iter(loader)
    found = frozen(islice(passing, 3))
    os.kill(pids_of(loader)[0], signal.SIGINT)
    assert found + frozen(passing) == whole


def test_a_worker_that_ends_itself_is_named_with_its_status(files):
    loader = loader_of(files, num_workers=1, worker_init_fn=leave)
    with pytest.raises(WorkerError, match=r"worker 0 of 1 .* ended with status 3; it had read not"):
        next(iter(loader))


def leave(worker: int) -> None:
    os._exit(3)


def test_errors_that_are_no_death_stay_what_they_are(files):
    loader = loader_of(files, num_workers=1, worker_init_fn=fail)
    with pytest.raises(RuntimeError, match="a fault of the user"):
        next(iter(loader))
    assert not any(ended(pid) for pid in pids_of(loader))


def fail(worker: int) -> None:
    raise RuntimeError("a fault of the user")


def test_a_note_is_what_the_process_wrote_last():
    ledger = SharedLedger()
    assert ledger.read_note(17) is None
    note = ledger.note("17-0")
    assert ledger.read_note(17) is None
    for place in ((3, 0, 100), (4, 2**40, 2**40 + 5)):
        note[:] = place
        assert ledger.read_note(17) == place
    assert ledger.read_note(1) is None


def test_a_note_without_a_reader_goes_nowhere(tmp_path):
    ledger = SharedLedger()
    ledger.folder = tmp_path / "gone"
    note = ledger.note("17-0")
    note[:] = 1, 2, 3
    assert not isinstance(note, np.memmap)
