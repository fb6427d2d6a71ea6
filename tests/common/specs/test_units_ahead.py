"""Reading ahead: in order, one item at most, errors in their place, and no thread is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import uproot

from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.core.errors import DataError, FileError
from hepdata_adapters.common.specs.units_ahead import ahead
from tests.helpers.specs_files import small_units


def reading() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "reading"]


def test_never_more_than_one_is_made_ahead():
    made: list[int] = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    for number in ahead(items()):
        time.sleep(0.002)
        assert len(made) <= number + 2
    assert made == list(range(20))
    assert not reading()


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        yield 2
        raise FileError("gone", file="a.root")

    run = ahead(items())
    assert [next(run), next(run)] == [1, 2]
    with pytest.raises(FileError, match=r"a\.root"):
        next(run)
    assert not reading()


def test_a_consumer_that_stops_closes_the_generator():
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    run = ahead(items())
    assert next(run) == 0
    run.close()
    assert closed == ["reading"]
    assert not reading()


def test_a_reader_that_is_stuck_keeps_nobody(monkeypatch):
    monkeypatch.setattr("hepdata_adapters.common.specs.units_ahead.SECONDS_TO_END", 0.1)
    free = threading.Event()

    def items():
        yield 1
        free.wait()

    start = time.monotonic()
    run = ahead(items())
    next(run)
    run.close()
    assert time.monotonic() - start < 5
    free.set()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_names_the_first_branch_and_its_place(tmp_path, threads):
    path = tmp_path / "bad.root"
    with uproot.recreate(path) as file:
        fine, bad = np.arange(150.0), np.array([1e300, -1e300, 1.0] * 50)
        file["Events"] = {"a": fine, "b": bad, "c": bad, "d": fine, "e": bad}
    config = DatasetConfig(samples=(Sample(files=str(path)),))
    with pytest.raises(DataError, match=r"too large.*bad\.root.*branch b"):
        compute_specs(config, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_that_runs_out_while_reading_names_the_entries(tmp_path, monkeypatch, threads):
    small_units(monkeypatch, 100)
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"x": np.arange(1000.0)}

    def full(source, file, number):
        if number == 3:
            raise MemoryError
        return real(source, file, number)

    from hepdata_adapters.common.specs import units_ahead

    real = units_ahead.read_unit
    monkeypatch.setattr(units_ahead, "read_unit", full)
    config = DatasetConfig(samples=(Sample(files=str(path)),))
    with pytest.raises(DataError, match=r"the memory ran out.*entries 300 to 400"):
        compute_specs(config, threads=threads)


SCRIPT = """
import sys, threading, time
from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.specs import units_ahead
real = units_ahead.read_unit
def slow(*arguments):
    print("reading", flush=True)
    time.sleep({seconds})
    return real(*arguments)
units_ahead.read_unit = slow
compute_specs(DatasetConfig(samples=(Sample(files=sys.argv[1]),)), threads=2)
"""


@pytest.mark.parametrize("seconds", [0.01, 60])
def test_an_interrupt_ends_the_pass_and_its_threads(tmp_path, seconds):
    """Also while a read is stuck."""
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "float64"})
        for _ in range(300):
            file["Events"].extend({"x": np.arange(2048.0)})
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(seconds=seconds), str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGINT)
    start = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said
