"""One measurement: a process of its own, watched until it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.speed.environments import HOME
from benchmarks.speed.job import Job
from benchmarks.speed.measured import ANSWER

INTERVAL = 0.1  # seconds between looks at the memory


class MeasurementError(RuntimeError):
    """A system failed, or took too long; says how."""


@dataclass
class Memory:
    """Peaks over all processes of a run, in bytes.

    resident: what the kernel calls resident, with file pages that are mapped, and shared ones once
    for each process. own: without the pages of files.
    """

    resident: int = 0
    own: int = 0

    def look(self, process: psutil.Process) -> None:
        """At the process and all below it."""
        resident = own = 0
        try:
            for one in [process, *process.children(recursive=True)]:
                try:
                    found = one.memory_info()
                    resident += found.rss
                    own += found.rss - _file_pages(one.pid)
                except psutil.Error:
                    continue  # it has just ended
        except psutil.Error:
            return
        self.resident, self.own = max(self.resident, resident), max(self.own, own)


def measure(job: Job, python: str, environment: dict[str, str], longest: float) -> dict[str, Any]:
    """The answer of `benchmarks.speed.measured`, with memory and CPU. Raises MeasurementError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        replace(job, started=time.monotonic()).write(path)
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                [python, "-m", "benchmarks.speed.measured", str(path)], cwd=HOME,
                env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=stdout,
                stderr=stderr, start_new_session=True,
            )  # fmt: skip
            code, memory, cpu = _watch(process, longest)
        lines = output.read_text(errors="replace").splitlines()
        answers = [line for line in lines if line.startswith(ANSWER)]
        if code is None:
            raise MeasurementError(f"stopped after {longest:.0f} s")
        if code or not answers:
            said = errors.read_text(errors="replace").strip().splitlines()
            raise MeasurementError(
                f"exit code {code}: {said[-1] if said else 'nothing was said'}"
                if code >= 0 else f"killed by {signal.Signals(-code).name}"
            )  # fmt: skip
    answer: dict[str, Any] = json.loads(answers[-1].removeprefix(ANSWER))
    peaks = {"peak_resident": memory.resident, "peak_own": memory.own}
    return answer | peaks | {"cpu_seconds": cpu}


def _watch(process: subprocess.Popen[bytes], longest: float) -> tuple[int | None, Memory, float]:
    """Exit code (None: stopped), peaks of memory, and CPU seconds of all its processes."""
    memory, ended = Memory(), threading.Event()
    watched = psutil.Process(process.pid)

    def sample() -> None:
        while not ended.wait(INTERVAL):
            memory.look(watched)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    timer = threading.Timer(longest, _end, (process.pid,))
    start = time.monotonic()  # before the timer's: a process that it ends was not early
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        _end(process.pid)  # after Ctrl-C, and workers that outlived it
        timer.cancel()
        ended.set()
        thread.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    late = process.returncode < 0 and time.monotonic() - start >= longest
    return None if late else process.returncode, memory, usage.ru_utime + usage.ru_stime


def _end(group: int) -> None:
    """All processes of a run: it leads a group of its own."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def _file_pages(pid: int) -> int:
    """Bytes of the files that a process has mapped; 0 where the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssFile:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0
