"""Kernels: the same results as Python, no lock, safe beside a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hepdata_adapters.common.core.compiled import compiled, places_of


def test_other_threads_run_meanwhile() -> None:
    @compiled
    def spin(count):  # type: ignore[no-untyped-def]
        total = 0
        for number in range(count):
            total ^= number * total + 1
        return total

    spin(1)
    begun, ticks = threading.Event(), 0

    def work() -> None:
        begun.set()
        spin(400_000_000)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    while thread.is_alive() and ticks < 5:
        time.sleep(0.005)
        ticks += 1
    thread.join()
    assert ticks == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_a_thread_compiles_can_compile() -> None:
    """It waited for the compiler's lock, which a thread held that the child does not have."""

    def kernels():  # type: ignore[no-untyped-def]
        while not done.is_set():

            @compiled
            def add(values):  # type: ignore[no-untyped-def]
                return values + 1.0

            add(np.ones(2))
            kept.append(add)  # to free one would take a lock of LLVM's, not of the compiler

    done, kept = threading.Event(), []
    thread = threading.Thread(target=kernels)
    thread.start()
    while not kept:  # what is imported on first use has locks of its own, see fork_gate
        time.sleep(0.01)
    try:
        for _ in range(3):
            time.sleep(0.05)
            child = os.fork()
            if not child:

                @compiled
                def double(values):  # type: ignore[no-untyped-def]
                    return values * 2.0

                os._exit(0 if double(np.ones(1))[0] == 2.0 else 1)
            end = time.monotonic() + 60
            found, status = 0, 0
            while not found and time.monotonic() < end:
                found, status = os.waitpid(child, os.WNOHANG)
                time.sleep(0.02)
            if not found:
                os.kill(child, 9)
                os.waitpid(child, 0)
            assert (found, status) == (child, 0)
    finally:
        done.set()
        thread.join()


def test_kernels_load_no_extensions_and_functions_of_users_do() -> None:
    """vector's imports sympy: half a second in front of the first batch."""
    script = """
import sys, numpy as np, numba
from hepdata_adapters.common.core.compiled import compiled, places_of

@compiled
def add(values):
    return values + 1.0

assert add(np.ones(1))[0] == 2.0
assert "sympy" not in sys.modules
import awkward as ak
first = numba.njit(lambda array: array[0])
assert first(ak.Array([3, 4])) == 3
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_kernels_take_only_arrays_that_lie_as_they_read_them() -> None:
    values = np.arange(10.0)
    assert places_of([values, values[2:5]])[:, 1].tolist() == [10, 3]
    raw = np.zeros(81, np.uint8)[1:].view(np.float64)
    for wrong in (values[::2], np.asfortranarray(np.ones((2, 3))), raw):
        with pytest.raises(ValueError, match="not contiguous and aligned"):
            places_of([wrong])
