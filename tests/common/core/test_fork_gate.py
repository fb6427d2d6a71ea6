"""A fork waits for the work of threads, and the child begins anew."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from hepdata_adapters.common.core import fork_gate
from hepdata_adapters.common.core.fork_gate import ForkGate


def test_a_fork_waits_until_the_work_is_done() -> None:
    gate, begun, ended = ForkGate(), threading.Event(), []

    def work() -> None:
        with gate:
            begun.set()
            time.sleep(0.3)
            ended.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    gate._before()
    assert ended == [1]
    late: list[int] = []

    def more() -> None:
        with gate:
            late.append(1)

    other = threading.Thread(target=more)
    other.start()
    time.sleep(0.1)
    assert not late  # nothing begins while it forks
    gate._after()
    other.join()
    thread.join()
    assert late == [1]


def test_work_that_never_ends_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_gate, "SECONDS", 0.1)
    gate = ForkGate()
    with gate:
        gate._before()
        gate._after()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_can_import_what_a_thread_was_importing(tmp_path) -> None:
    """It waited for the lock of a module that a thread of its parent was importing."""
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(1)\n")
    script = """
import os, sys, threading, time
from hepdata_adapters.common.stream.read_ahead import _gate
begun = threading.Event()
def work():
    with _gate:
        begun.set()
        import slow_module
threading.Thread(target=work).start()
begun.wait()
time.sleep(0.2)
child = os.fork()
if not child:
    import slow_module
    os._exit(0)
end = time.monotonic() + 20
found = 0
while not found and time.monotonic() < end:
    found, status = os.waitpid(child, os.WNOHANG)
    time.sleep(0.02)
if not found:
    os.kill(child, 9)
    sys.exit("the child hangs")
sys.exit(status)
"""
    places = [str(tmp_path), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
