"""What every framework does around a training: the run folder, the checks, a line an epoch."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from rich.console import Console

from hepdata_adapters.common.config.dataset_config import Framework, RunConfig, Task
from hepdata_adapters.common.config.user_model import load_factory
from hepdata_adapters.common.core.errors import ConfigError, FileError, TrainingInterruptedError
from hepdata_adapters.common.core.ledger import Ledger
from hepdata_adapters.common.core.machine import check_processes
from hepdata_adapters.common.core.progress import progress_bar
from hepdata_adapters.common.core.writing import check_folder
from hepdata_adapters.common.runs.run_folder import (
    num_outputs,
    output_names,
    read_parts,
    save_inputs,
    write_json,
)
from hepdata_adapters.common.runs.throughput import Reading, Throughput, advice
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import describe
from hepdata_adapters.common.transform.usable_features import refuse


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """A training that may begin: its inputs are checked and saved in the run folder."""

    config: RunConfig
    folder: Path
    prepared: Dataset
    task: Task
    names: list[str]
    console: Console

    def tell(self, line: str) -> None:
        """Say something to the user."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    @property
    def num_outputs(self) -> int:
        """Outputs of the network."""
        return num_outputs(self.task, len(self.names))

    @property
    def monitor(self) -> str:
        """The loss that early stopping looks at: of the training where nothing validates."""
        return "validation_loss" if self.prepared.specs.events("validation") else "train_loss"


def resumed_job(folder: str | Path, framework: Framework, saved: str) -> TrainingJob:
    """The training of a run folder that was broken off and left its file ``saved``.

    Raises ConfigError where there is nothing to go on with, FileError or SpecsError where the
    folder or the data are not those of the training any more.
    """
    folder = Path(folder)
    if (folder / "config.yaml").is_file() and not (folder / saved).is_file():
        ended = (folder / "metrics.json").is_file()
        raise ConfigError(
            f"{folder} has nothing to go on with: its training has "
            + ("ended" if ended else f"left no {saved}; train it anew with --overwrite")
        )
    parts = read_parts(folder, framework, saved)
    check_folder(folder)
    return TrainingJob(
        parts.config, folder, parts.prepare(), parts.task, parts.class_names, Console(stderr=True)
    )


def interrupted(number: int, folder: Path) -> TrainingInterruptedError:
    """The error for a training that a signal stopped, with the command that goes on."""
    command = f"hepdata-adapters fit --resume {shlex.quote(str(folder))}"
    return TrainingInterruptedError(
        f"stopped by {Signals(number).name}; to go on: {command}", number
    )


def prepare_job(config: RunConfig, folder: str | Path, *, overwrite: bool = False) -> TrainingJob:
    """Claim the folder, scan the files, find or make the specs, and save what is known.

    Raises ConfigError if the folder holds something already, or if there are no labels.
    """
    folder = Path(folder)
    console = Console(stderr=True)
    check_processes("training.workers", config.training.workers)
    check_processes("training.devices", config.training.devices)
    if config.model.factory:
        load_factory(config.model.factory)  # before the work, not after it
    _claim(folder, overwrite)
    with progress_bar("computing specs") as report:
        prepared = Dataset.prepare(config, progress=report)
    task = prepared.layout.task
    if task is None:
        raise ConfigError("no sample has a label: give each one 'label' (a number or a branch)")
    refuse(prepared.config, prepared.layout, prepared.specs)
    names = output_names(prepared)
    for line in describe(prepared):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    save_inputs(folder, config, prepared, names)
    return TrainingJob(config, folder, prepared, task, names, console)


@contextmanager
def ledger_kept(folder: Path, read: Callable[[], Ledger]) -> Iterator[None]:
    """Write what happened to the events of a training, also where it is broken off."""
    try:
        yield
    except BaseException:
        with suppress(FileError):
            write_json(folder / "ledger.json", {"training": read().to_dict()})
        raise


class EpochLog:
    """One line an epoch (losses, metrics, events/s), above a bar with the time left.

    waited: seconds so far, see `Throughput`. The line of an epoch says what part of its time they
    are.
    """

    def __init__(
        self,
        job: TrainingJob,
        report: Callable[[int, int], None],
        waited: Callable[[], float],
        reading: Reading,
    ) -> None:
        self.epochs = self.events = 0
        self.seconds = self.waited = 0.0
        self._job, self._seconds_waited, self._reading = job, waited, reading
        self._console, self._report = job.console, report
        self._all_epochs = job.config.training.epochs
        training, events = job.config.training, job.prepared.events("train")
        left_out = events % (training.batch_size * training.devices) if training.drop_last else 0
        self._per_epoch = events - left_out
        self._created = time.perf_counter()
        self._started = self._began = 0.0
        self._last = Throughput(0, 0.0, 0.0, reading)
        self._first = 0, 0.0, 0.0  # events, seconds, waited: of the first epoch
        self._seen = 0
        self._running = False

    def start(self) -> None:
        """An epoch begins."""
        self._started, self._began = time.perf_counter(), self._seconds_waited()
        self._seen, self._running = 0, True

    def batch(self, rows: int) -> None:
        """A training batch is done."""
        if not self._running:  # in the middle of an epoch that goes on
            self.start()
        self._seen += rows
        self._report(self.events + self._seen, self._per_epoch * self._all_epochs)

    def pause(self) -> None:
        """Training ends where validation begins, or with the epoch if there is none."""
        if self._running:
            seconds, waited = self._so_far()
            self._last = Throughput(self._seen, seconds, waited, self._reading)
            self.events += self._seen
            self.seconds += seconds
            self.waited += waited
            self._seen, self._running = 0, False
            if self.epochs == 0:
                self._first = self.events, self.seconds, self.waited

    def finish(self, values: Mapping[str, float]) -> None:
        """An epoch ends with these losses and metrics."""
        self.pause()
        self.epochs += 1
        text = "  ".join(f"{name} {value:.4f}" for name, value in sorted(values.items()))
        self._console.print(
            f"epoch {self.epochs}/{self._all_epochs}  {text}  {self._last.brief}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """What a training that goes on starts from."""
        seconds, waited = self._so_far() if self._running else (0.0, 0.0)
        return {
            "epochs": self.epochs,
            "events": self.events + self._seen,  # 0 between epochs
            "seconds": self.seconds + seconds,
            "waited": self.waited + waited,
            "first": self._first,
            "all": time.perf_counter() - self._created,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.epochs, self.events = state["epochs"], state["events"]
        self.seconds, self.waited = state["seconds"], state["waited"]
        self._first = tuple(state["first"])
        self._created = time.perf_counter() - state["all"]

    def summary(self) -> dict[str, Any]:
        """What metrics.json says of the training."""
        return {
            "epochs": self.epochs,
            "seconds": round(time.perf_counter() - self._created, 2),
            "events": self.events,
            "events_per_second": round(self.events / max(self.seconds, 1e-9)),
            "seconds_training": round(self.seconds, 3),
            "seconds_waited": round(self.waited, 3),
            "reading": self._reading.how,
            "limit": self._usual.limit,
        }

    def say_limit(self, threads: tuple[int, int] = (1, 1)) -> None:
        """Say what the training was limited by, and what to change. threads: see `advice`."""
        found = self._usual
        if found.events:
            self._job.tell(found.verdict)
            if change := advice(found, self._job.config, threads):
                self._job.tell(f"for more events/s: {change}")

    @property
    def _usual(self) -> Throughput:
        """Without the first epoch, which opens files and starts workers, if there are more."""
        events, seconds, waited = self._first
        if events == self.events:
            return Throughput(events, seconds, waited, self._reading)
        return Throughput(
            self.events - events, self.seconds - seconds, self.waited - waited, self._reading
        )

    def _so_far(self) -> tuple[float, float]:
        """Seconds of the epoch that runs, and those waited in it."""
        now = time.perf_counter()
        return now - self._started, self._seconds_waited() - self._began


def _claim(folder: Path, overwrite: bool) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            going_on = f" go on with fit --resume {folder}," if any(folder.glob("resume.*")) else ""
            raise ConfigError(
                f"{folder} is not empty:{going_on} name another folder or say --overwrite"
            )
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"{folder} is not a run folder, so it is not overwritten")
        shutil.rmtree(folder)
    check_folder(folder)
