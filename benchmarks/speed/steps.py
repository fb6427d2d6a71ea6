"""One step of a run: a system on a workload, measured or compared, with all that it needs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import correctness, inputs
from benchmarks.speed.environments import HOME, EnvironmentMissingError, python_of
from benchmarks.speed.job import Job
from benchmarks.speed.measurement import measure
from benchmarks.speed.systems import SCRATCH, Environment, System
from benchmarks.speed.workloads import BATCH, LENGTH, Workload


@dataclass(frozen=True)
class Settings:
    """How long to measure. longest: seconds a process may take."""

    repeat: int = 3
    epochs: int = 3
    longest: float = 900.0
    check: bool = True


@dataclass(frozen=True)
class Step:
    """One process: a check (repetition −1) or a measurement."""

    workload: Workload
    system: System
    repetition: int

    @property
    def read(self) -> Workload:
        """The workload with the files that this system reads of it."""
        most = self.system.files or self.workload.used
        return replace(self.workload, files=min(most, self.workload.used))

    @property
    def checks(self) -> bool:
        """Whether rows are compared, and nothing is timed."""
        return self.repetition < 0

    @property
    def key(self) -> dict[str, Any]:
        """In the file of runs."""
        return {
            "workload": self.workload.key, "system": self.system.key, "repetition": self.repetition
        }  # fmt: skip


@dataclass
class Executor:
    """Carries steps out; makes inputs and environments when the first step needs them."""

    folder: Path
    settings: Settings
    pythons: dict[str, str | None]
    tell: Callable[[str], None]
    _ready: dict[Environment, str | EnvironmentMissingError] = field(default_factory=dict)
    _prepared: set[str] = field(default_factory=set)

    def carry_out(self, step: Step) -> dict[str, Any]:
        """What came of it.

        Raises EnvironmentMissingError, InputsError, or MeasurementError, each with its reason.
        """
        python = self._python(step.system.environment)
        paths = self.make_inputs(step.workload)[: step.read.used]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            self._prepare(step, paths, scratch)
            _warm(paths)
            if step.checks:
                return self._check(step, paths, python, scratch)
            own = {"HEPDATA_CACHE": scratch} if step.system.kind == "specs" else {}
            epochs = 1 if step.system.kind == "specs" else self.settings.epochs
            job = _job(step, paths, scratch, epochs=epochs)
            return measure(job, python, self._environment | own, self.settings.longest)

    def make_inputs(self, workload: Workload) -> list[Path]:
        """The files of a workload. Raises InputsError or EnvironmentMissingError."""
        root_python = None
        if workload.inputs.shape != "wide" and not inputs.made(workload.inputs, self.folder):
            root_python = self._python("root")
        return inputs.make(workload.inputs, self.folder, root_python, self.tell)

    def _check(self, step: Step, paths: list[Path], python: str, scratch: str) -> dict[str, Any]:
        known = correctness.truth(step.read, paths)
        rows = str(Path(scratch) / "rows.npz")
        sample = tuple(map(int, known.ids))
        job = _job(step, paths, scratch, epochs=0, sample=sample, rows=rows)
        answer = measure(job, python, self._environment, self.settings.longest)
        with np.load(rows) as file:
            delivered = file["rows"]
        affine = tuple(answer["affine"])
        found = correctness.compare(known, delivered, affine, step.read.events, answer["delivered"])
        return {"check": found, "versions": answer["versions"]}

    def _prepare(self, step: Step, paths: list[Path], scratch: str) -> None:
        """Specs are made once for a sample, before any training: not part of an epoch."""
        if step.system.kind == "ours" and step.workload.key not in self._prepared:
            job = _job(step, paths, scratch, epochs=0)
            measure(job, self._python("ours"), self._environment, self.settings.longest)
            self._prepared.add(step.workload.key)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "HEPDATA_CACHE": str(self.folder / "specs"),
            "PYTHONPATH": f"{HOME}:{HOME / 'serving'}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }

    def _python(self, name: Environment) -> str:
        if name not in self._ready:
            try:
                self._ready[name] = python_of(name, self.pythons.get(name), self.tell)
            except EnvironmentMissingError as error:
                self._ready[name] = error
        found = self._ready[name]
        if isinstance(found, EnvironmentMissingError):
            raise found
        return found


def _job(step: Step, paths: list[Path], scratch: str, **more: Any) -> Job:
    workload, system = step.read, step.system
    # a folder that the system may fill, such as a cache: fresh for each process
    options = json.loads(json.dumps(system.options).replace(SCRATCH, scratch))
    if system.kind in ("ours", "specs") and workload.memory is not None:
        reading = {"memory": workload.memory}
        given = options.get("dataset", {})
        options["dataset"] = given | {"reading": reading | given.get("reading", {})}
    return Job(
        system.module, tuple(map(str, paths)), workload.flat, workload.groups, LENGTH, BATCH,
        seed=max(step.repetition, 0) + 1, cores=system.cores, options=options, **more,
    )  # fmt: skip


def _warm(paths: list[Path]) -> None:
    """Into the page cache: disks are not what is measured."""
    for path in paths:
        with path.open("rb") as file:
            while file.read(2**24):
                pass
