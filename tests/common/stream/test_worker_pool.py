"""Worker processes: the same batches as in this process, clear errors, and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError, WorkerError
from hepdata_adapters.common.core.ledger import SharedLedger
from hepdata_adapters.common.core.reused_memory import ALIGNMENT
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.common.stream.shared_batches import (
    Copies,
    Field,
    Slots,
    batch_fields,
)
from hepdata_adapters.common.stream.worker_pool import BatchWorkers

ROOT = Path(__file__).resolve().parents[3]
MEMORY = "/memfd:hepdata-batches"


@pytest.fixture
def dataset(three_files) -> Dataset:
    labels = {str(path): number % 2 for number, path in enumerate(three_files)}
    options = {"features": ["MET", "passes", "Jet_pt"], "sampling": {"chunk_size": 70}}
    return prepare(labels, options, progress=False)


def copied(batches) -> list[dict[str, np.ndarray]]:
    return [{name: values.copy() for name, values in batch.items()} for batch in batches]


def check_equal(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert one[name].shape == other[name].shape
            assert one[name].tobytes() == other[name].tobytes(), name


def maps_of(pid: int) -> str:
    """What a process has mapped into its memory."""
    return Path(f"/proc/{pid}/maps").read_text()


def gone(pid: int) -> bool:
    """Whether the process has ended (nobody need have asked for its exit status)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until_gone(pids: list[int], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_deliver_what_this_process_would_pass_after_pass(dataset, workers):
    with BatchWorkers(dataset, "train", batch_size=64, workers=workers) as pool:
        pids = pool.pids
        for wanted in (
            EpochOptions(64, shuffle=True, seed=1).epoch(),
            EpochOptions(64, shuffle=True, seed=1).epoch(number=1, rank=1, world_size=3),
            EpochOptions(50, shuffle=False, seed=1).epoch(2),
        ):
            counts, ours = SharedLedger(), SharedLedger()
            with EventStream(dataset, "train") as stream:
                expected = copied(wanted.batches(stream, ours))
            check_equal(copied(pool.batches(wanted, counts)), expected)
            assert counts.read().to_dict() == ours.read().to_dict()
        assert pool.pids == pids
    assert pool.closed
    assert all(map(gone, pids))


def test_more_workers_than_batches(dataset):
    wanted = EpochOptions(4013, shuffle=True, seed=0).epoch()
    with EventStream(dataset, None) as stream:
        expected = copied(wanted.batches(stream, None))
    with BatchWorkers(dataset, None, batch_size=4013, workers=2) as pool:
        check_equal(copied(pool.batches(wanted)), expected)


def test_a_pass_that_is_broken_off_ends_the_workers(dataset):
    gc.collect()  # what earlier tests left must not go while we count
    files = psutil.Process().num_fds()
    pool = BatchWorkers(dataset, None, batch_size=64, workers=2)
    pids = pool.pids
    batches = pool.batches(EpochOptions(64, shuffle=True, seed=0).epoch())
    next(batches)
    for pid in pids:  # not of the machine as a whole, where others share memory too
        assert MEMORY in maps_of(pid)
        assert "/dev/shm/" not in maps_of(pid)
    with pytest.raises(ConfigError, match="busy with another pass"):
        next(pool.batches(EpochOptions(64, shuffle=True, seed=0).epoch(1)))
    batches.close()
    assert all(map(gone, pids))
    with pytest.raises(ConfigError, match="are closed"):
        next(pool.batches(EpochOptions(64, shuffle=True, seed=0).epoch(1)))
    del pool, batches
    gc.collect()
    assert MEMORY not in maps_of(os.getpid())
    assert psutil.Process().num_fds() == files


def test_workers_that_nobody_refers_to_end(dataset):
    pool = BatchWorkers(dataset, None, batch_size=64, workers=1)
    pids = pool.pids
    del pool
    gc.collect()
    assert all(map(gone, pids))


def test_a_batch_outlives_its_workers(dataset):
    with BatchWorkers(dataset, None, batch_size=64, workers=1) as pool:
        batch = next(pool.batches(EpochOptions(64, shuffle=False, seed=0).epoch()))
    assert batch["event"][:, 1].tolist() == list(range(64))


def test_a_killed_worker_is_an_error_and_not_a_hang(dataset):
    pool = BatchWorkers(dataset, None, batch_size=16, workers=2)
    batches = pool.batches(EpochOptions(16, shuffle=True, seed=0).epoch())
    next(batches)
    victim, other = pool.pids
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"process 0 \(pid {victim}\) was killed by SIGKILL"):
        list(batches)
    assert gone(other)
    assert pool.closed


def test_an_error_in_a_worker_keeps_its_class_and_place(make_file):
    values = np.ones(100, np.float32)
    values[77] = np.nan
    dataset = prepare(str(make_file(MET=values)), {"features": ["MET"]}, progress=False)
    wanted = EpochOptions(10, shuffle=False, seed=0).epoch()
    with BatchWorkers(dataset, None, batch_size=10, workers=2) as pool:
        found = []
        with pytest.raises(InvalidValueError, match=r"NaN or infinity; .*branch MET, entry 77\]"):
            found.extend(batch["event"][0, 1] for batch in pool.batches(wanted))
    assert found == [0, 10, 20, 30, 40, 50, 60]


class BrokenLedger:
    """A ledger that a worker cannot write."""

    def note(self, writer: str) -> None:
        raise AttributeError(f"{writer} has no ledger")

    def read_note(self, pid: int) -> None:
        """Nothing was read."""


def test_any_other_error_comes_with_the_traceback_of_the_worker(dataset):
    with BatchWorkers(dataset, None, batch_size=4013, workers=1) as pool:
        batches = pool.batches(
            EpochOptions(4013, shuffle=True, seed=0).epoch(), ledger=BrokenLedger()
        )
        with pytest.raises(
            WorkerError, match=r"(?s)process 0 failed with AttributeError: .*stream"
        ):
            list(batches)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_a_number_of_workers_that_makes_no_sense(dataset, workers):
    with pytest.raises(ConfigError, match="num_workers is a whole number from 1, not"):
        BatchWorkers(dataset, None, batch_size=64, workers=workers)


def test_a_batch_that_is_too_large_for_the_slots(dataset):
    with (
        BatchWorkers(dataset, None, batch_size=64, workers=1) as pool,
        pytest.raises(ConfigError, match="batch_size 65 is more than the 64 rows"),
    ):
        next(pool.batches(EpochOptions(65, shuffle=True, seed=0).epoch()))


# without `if __name__ == "__main__"`, which workers of multiprocessing would need
SCRIPT = """
import sys
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.worker_pool import BatchWorkers
dataset = prepare(sys.argv[1], {"features": ["MET"]}, progress=False)
pool = BatchWorkers(dataset, None, batch_size=10, workers=2)
batches = pool.batches(EpochOptions(10, shuffle=True, seed=0).epoch())
next(batches)
print(*pool.pids, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_workers_end_with_their_parent(three_files, tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script, three_files[0]], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        if end == "kill":
            parent.kill()
        _, faults = parent.communicate(timeout=60)
    wait_until_gone(pids)
    assert faults == ""


def test_a_forked_child_leaves_the_workers_to_its_parent(dataset):
    wanted = EpochOptions(64, shuffle=True, seed=0).epoch()
    with BatchWorkers(dataset, None, batch_size=64, workers=1) as pool:
        child = os.fork()
        if not child:
            pool.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert len(copied(pool.batches(wanted))) == 63


names = st.sampled_from("abcdef")
shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)
dtypes = st.sampled_from([np.bool_, np.int32, np.int64, np.float32, np.float64]).map(np.dtype)
fields = st.lists(st.builds(Field, names, dtypes, shapes), min_size=1, unique_by=lambda f: f.name)


@given(fields, st.integers(0, 5), st.integers(1, 3), st.randoms())
def test_what_is_written_into_slots_is_what_is_read(fields, rows, count, random):
    slots = Slots(tuple(fields), rows=max(rows, 1), count=count)
    memory = bytearray(slots.nbytes)
    made = np.random.default_rng(random.getrandbits(32))
    written = [
        {f.name: made.integers(0, 2, (rows, *f.shape)).astype(f.dtype) for f in fields}
        for _ in range(count)
    ]
    for slot, batch in enumerate(written):
        assert slots.write(memory, slot, batch) == rows
    first = slots.views(memory, 0, 0)[fields[0].name].ctypes.data
    for slot, batch in enumerate(written):
        views = slots.views(memory, slot, rows)
        check_equal([views], [batch])
        assert all((view.ctypes.data - first) % ALIGNMENT == 0 for view in views.values())


def test_copies_use_memory_again_but_none_that_is_referred_to():
    copies = Copies((Field("x", np.dtype(np.float32), (3,)), Field("n", np.dtype(np.int64))), 10)

    def batch(number: int) -> dict[str, np.ndarray]:
        return {"x": np.full((4, 3), number, np.float32), "n": np.full(4, number)}

    first = copies(batch(0))
    places = {first["x"].ctypes.data}
    tail = first["x"][1:].reshape(-1)[2:]  # a view of a view of it keeps it
    del first
    second = copies(batch(1))
    assert second["x"].ctypes.data not in places
    assert set(tail.tolist()) == {0.0}
    del tail
    third = copies(batch(2))
    assert third["x"].ctypes.data in places
    assert set(second["n"].tolist()) == {1}
    for values in (*second.values(), *third.values()):
        assert values.ctypes.data % ALIGNMENT == 0


def test_slots_refuse_other_batches(dataset):
    slots = Slots(batch_fields(dataset), rows=8, count=1)
    memory = bytearray(slots.nbytes)
    with EventStream(dataset, None) as stream:
        batch = next(EpochOptions(8, shuffle=False, seed=0).epoch().batches(stream, None))
    assert slots.write(memory, 0, batch) == 8
    with pytest.raises(ValueError, match="the batch holds"):
        slots.write(memory, 0, {k: v for k, v in batch.items() if k != "mask"})
    with pytest.raises(ValueError, match=r"mask is \(8, 2\)"):
        slots.write(memory, 0, batch | {"mask": batch["mask"][:, :2]})
    with pytest.raises(TypeError, match="float32"):
        slots.write(memory, 0, batch | {"weight": batch["weight"].astype(np.float32)})
