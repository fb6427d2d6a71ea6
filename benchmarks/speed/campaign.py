"""All measurements of a run: systems take turns, and a run that was stopped goes on."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import correctness, inputs
from benchmarks.speed.environments import HOME, EnvironmentMissingError, python_of
from benchmarks.speed.job import Job
from benchmarks.speed.machine import code, machine
from benchmarks.speed.measurement import MeasurementError, measure
from benchmarks.speed.systems import BASE, Environment, System
from benchmarks.speed.workloads import BATCH, LENGTH, Workload

FORMAT = 1
_GUESS = 60_000  # events/s of a system that has not run yet, for the time that is left


@dataclass(frozen=True)
class Settings:
    """How long to measure. longest: seconds a process may take."""

    repeat: int = 3
    epochs: int = 3
    epoch_seconds: float = 20.0
    longest: float = 900.0
    check: bool = True


@dataclass(frozen=True)
class Step:
    """One process: a check (repetition −1) or a measurement."""

    workload: Workload
    system: System
    repetition: int

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
class Campaign:
    """Workloads × systems × repetitions, kept line by line in ``folder/runs.jsonl``."""

    folder: Path
    workloads: list[Workload]
    systems: list[System]
    settings: Settings
    pythons: dict[str, str | None]
    tell: Callable[[str], None]
    fresh: bool = False
    _ready: dict[Environment, str | EnvironmentMissingError] = field(default_factory=dict)
    _seconds: dict[tuple[str, str, bool], list[float]] = field(default_factory=dict)
    _failed: dict[tuple[str, str], str] = field(default_factory=dict)
    _prepared: set[str] = field(default_factory=set)

    def run(self) -> dict[str, Any]:
        """Measure what is missing; everything as one document, in which failures have reasons."""
        self.folder.mkdir(parents=True, exist_ok=True)
        runs = {} if self.fresh else self._kept()
        if self.fresh:
            self._file.unlink(missing_ok=True)
        steps = list(self.steps())
        left = [step for step in steps if _name(step) not in runs]
        if len(left) < len(steps):
            self.tell(f"{len(steps) - len(left)} of {len(steps)} measurements are there already")
        for number, step in enumerate(left, 1):
            start = time.monotonic()
            result = self._result(step)
            self._learn(step, time.monotonic() - start, result)
            line = step.key | {"bound": self._bound(step.workload)} | result
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")
            runs[_name(step)] = line
            rest = self.estimate(left[number:])
            self.tell(f"[{number}/{len(left)}] {_words(step, result)}; about {_minutes(rest)} left")
        return self._document([runs[_name(step)] for step in steps if _name(step) in runs])

    def make_inputs(self, workload: Workload) -> list[Path]:
        """The files of a workload. Raises InputsError or EnvironmentMissingError."""
        root_python = None
        if workload.inputs.shape != "wide" and not inputs.made(workload.inputs, self.folder):
            root_python = self._python("root")
        return inputs.make(workload.inputs, self.folder, root_python, self.tell)

    def steps(self) -> Iterator[Step]:
        """In turn: each repetition begins with another system."""
        for workload in self.workloads:
            systems = [one for one in self.systems if workload.key in one.workloads]
            if self.settings.check:
                yield from (Step(workload, one, -1) for one in systems if one.checked)
            for repetition in range(self.settings.repeat):
                first = repetition % max(len(systems), 1)
                for one in systems[first:] + systems[:first]:
                    yield Step(workload, one, repetition)

    def estimate(self, steps: list[Step]) -> float:
        """Seconds that the steps will take: as they took before, or as a guess."""
        total = 0.0
        for step in steps:
            if (step.workload.key, step.system.key) in self._failed:
                continue
            known = self._seconds.get((step.workload.key, step.system.key, step.checks))
            passes = 1 if step.checks else self.settings.epochs
            guess = step.workload.events / _GUESS
            if not step.checks:
                guess = min(guess, self.settings.epoch_seconds)
            total += float(np.mean(known)) if known else 5 + passes * guess
        return total

    @property
    def _file(self) -> Path:
        return self.folder / "runs.jsonl"

    def _bound(self, workload: Workload) -> str:
        """What a kept measurement must agree in."""
        paths = inputs.paths_of(workload.inputs, self.folder)
        settings = {"epochs": self.settings.epochs, "seconds": self.settings.epoch_seconds}
        return json.dumps([code(), paths[0].parent.name, workload.used, settings])

    def _kept(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        bounds = {workload.key: self._bound(workload) for workload in self.workloads}
        kept = {}
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        for text in lines:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # cut short when the run was stopped
            if "error" not in line and line["bound"] == bounds.get(line["workload"]):
                kept[line["workload"], line["system"], line["repetition"]] = line
        return kept

    def _learn(self, step: Step, seconds: float, result: dict[str, Any]) -> None:
        pair = step.workload.key, step.system.key
        if "error" in result:
            self._failed[pair] = result["error"]
        else:
            self._seconds.setdefault((*pair, step.checks), []).append(seconds)

    def _result(self, step: Step) -> dict[str, Any]:
        failed = self._failed.get((step.workload.key, step.system.key))
        if failed:
            return {"error": failed}  # not once more in this run
        try:
            python = self._python(step.system.environment)
            paths = self.make_inputs(step.workload)
            self._prepare(step, paths)
            return self._measure(step, paths, python)
        except (EnvironmentMissingError, MeasurementError, inputs.InputsError) as error:
            return {"error": str(error)}

    def _measure(self, step: Step, paths: list[Path], python: str) -> dict[str, Any]:
        warm(paths[: step.workload.used])
        if not step.checks:
            with tempfile.TemporaryDirectory(dir=self.folder) as cache:
                fresh = {"HEPDATA_CACHE": cache} if step.system.kind == "specs" else {}
                job = self._job(step, paths, epochs=self._epochs(step.system))
                return measure(job, python, self._environment | fresh, self.settings.longest)
        known = correctness.truth(step.workload, paths)
        with tempfile.TemporaryDirectory() as folder:
            rows = str(Path(folder) / "rows.npz")
            sample = tuple(map(int, known.ids))
            job = self._job(step, paths, epochs=0, sample=sample, rows=rows)
            answer = measure(job, python, self._environment, self.settings.longest)
            with np.load(rows) as file:
                found = correctness.compare(
                    known, file["rows"], tuple(answer["affine"]), step.workload.events,
                    answer["delivered"],
                )  # fmt: skip
        return {"check": found, "versions": answer["versions"]}

    def _epochs(self, system: System) -> int:
        return 1 if system.kind == "specs" else self.settings.epochs

    def _prepare(self, step: Step, paths: list[Path]) -> None:
        """Specs are made once for a sample, before any training: not part of an epoch."""
        if step.system.kind == "ours" and step.workload.key not in self._prepared:
            job = self._job(step, paths, epochs=0)
            measure(job, self._python("ours"), self._environment, self.settings.longest)
            self._prepared.add(step.workload.key)

    def _job(self, step: Step, paths: list[Path], **more: Any) -> Job:
        workload, system = step.workload, step.system
        options = dict(system.options)
        if system.kind in ("ours", "specs") and workload.cache_bytes is not None:
            reading = {"cache_bytes": workload.cache_bytes}
            given = options.get("dataset", {})
            options["dataset"] = given | {"reading": reading | given.get("reading", {})}
        return Job(
            system.module, tuple(map(str, paths[: workload.used])), workload.flat, workload.groups,
            LENGTH, BATCH, epoch_seconds=self.settings.epoch_seconds,
            seed=max(step.repetition, 0) + 1, cores=system.cores, options=options, **more,
        )  # fmt: skip

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

    def _document(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        used = {run["workload"] for run in runs}
        chosen = {run["system"] for run in runs}
        workloads = [
            asdict(one) | {"events": one.events, "columns": one.columns, "files": one.used,
                           "bytes": self._bytes(one)}
            for one in self.workloads if one.key in used
        ]  # fmt: skip
        return {
            "format": FORMAT, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "base": BASE,
            "machine": machine(), "settings": asdict(self.settings), "batch_size": BATCH,
            "length": LENGTH, "workloads": workloads,
            "systems": [
                {"key": one.key, "title": one.title, "kind": one.kind}
                for one in self.systems if one.key in chosen
            ],
            "runs": [{name: run[name] for name in run if name != "bound"} for run in runs],
        }  # fmt: skip

    def _bytes(self, workload: Workload) -> int:
        paths = inputs.paths_of(workload.inputs, self.folder)[: workload.used]
        return sum(path.stat().st_size for path in paths if path.exists())


def warm(paths: list[Path]) -> None:
    """Into the page cache: disks are not what is measured."""
    for path in paths:
        with path.open("rb") as file:
            while file.read(2**24):
                pass


def _name(step: Step) -> tuple[Any, ...]:
    return tuple(step.key.values())


def _words(step: Step, result: dict[str, Any]) -> str:
    name = f"{step.workload.key}: {step.system.title}"
    if "error" in result:
        return f"{name}: failed: {result['error']}"
    if step.checks:
        check = result["check"]
        return f"{name}: {check['equal']:,} of {check['sample']:,} events equal"
    rates = [epoch["events"] / epoch["seconds"] for epoch in result["epochs"]]
    own = result["peak_own"] / 2**20
    return f"{name}: {', '.join(f'{rate:,.0f}' for rate in rates)} events/s, {own:,.0f} MiB"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
