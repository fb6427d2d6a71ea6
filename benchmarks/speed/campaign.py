"""All measurements of a run: systems take turns, and a run that was stopped goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import inputs
from benchmarks.speed.environments import EnvironmentMissingError
from benchmarks.speed.machine import code, machine
from benchmarks.speed.measurement import MeasurementError
from benchmarks.speed.steps import Executor, Settings, Step
from benchmarks.speed.systems import BASE, System
from benchmarks.speed.workloads import BATCH, LENGTH, Workload

FORMAT = 1
_GUESS = 60_000  # events/s of a system that has not run yet, for the time that is left


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
    _executor: Executor = field(init=False)
    _seconds: dict[tuple[str, str, bool], list[float]] = field(default_factory=dict)
    _failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._executor = Executor(self.folder, self.settings, self.pythons, self.tell)

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
            kept = {"bound": self._bound(step.workload), "files": step.read.used}
            line = step.key | kept | result
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")
            runs[_name(step)] = line
            rest = self.estimate(left[number:])
            self.tell(f"[{number}/{len(left)}] {_words(step, result)}; about {_minutes(rest)} left")
        return self._document([runs[_name(step)] for step in steps if _name(step) in runs])

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
            guess = step.read.events / _GUESS
            total += float(np.mean(known)) if known else 5 + passes * guess
        return total

    @property
    def _file(self) -> Path:
        return self.folder / "runs.jsonl"

    def _bound(self, workload: Workload) -> str:
        """What a kept measurement must agree in."""
        paths = inputs.paths_of(workload.inputs, self.folder)
        return json.dumps([code(), paths[0].parent.name, workload.used, self.settings.epochs])

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
            return self._executor.carry_out(step)
        except (EnvironmentMissingError, MeasurementError, inputs.InputsError) as error:
            return {"error": str(error)}

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
