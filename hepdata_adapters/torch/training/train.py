"""``fit`` with Lightning: from a config to a run folder."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import WorkerError
from hepdata_adapters.common.core.progress import progress_bar
from hepdata_adapters.common.runs.evaluate import evaluate_run
from hepdata_adapters.common.runs.signals import Signals
from hepdata_adapters.common.runs.throughput import reading_of
from hepdata_adapters.common.runs.training import (
    EpochLog,
    TrainingJob,
    interrupted,
    ledger_kept,
    prepare_job,
    resumed_job,
)
from hepdata_adapters.torch.data.datamodule import RootDataModule
from hepdata_adapters.torch.training.event_module import UNDEFINED_AUC, EventModule
from hepdata_adapters.torch.training.interruptible import Resumable
from hepdata_adapters.torch.training.models import build_model
from hepdata_adapters.torch.training.run_folder import CHECKPOINT, load_run
from hepdata_adapters.torch.training.threads import step_threads, threads_for, useful_threads

RESUME = "resume.ckpt"


def fit(config: RunConfig, folder: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Train, evaluate and draw; everything goes to ``folder``. Returns the metrics.

    Raises ConfigError if the folder holds something already, or if there are no labels.
    """
    return _fit(prepare_job(config, folder, overwrite=overwrite))


def resume(folder: str | Path) -> dict[str, Any]:
    """Go on with a training that was broken off, at the next event; returns the metrics.

    Raises ConfigError where there is nothing to go on with, SpecsError where the data changed.
    """
    job = resumed_job(folder, "torch", RESUME)
    return _fit(job, job.folder / RESUME)


def _fit(job: TrainingJob, saved: Path | None = None) -> dict[str, Any]:
    """saved: the state of the training to go on with."""
    prepared, training = job.prepared, job.config.training
    lightning.seed_everything(training.seed, verbose=False)
    net = build_model(job.config.model, prepared.transform.model_shape, job.num_outputs)
    module = EventModule(
        net, job.task, num_classes=len(job.names), inputs=prepared.transform.model_inputs,
        learning_rate=training.learning_rate, weight_decay=training.weight_decay,
    )  # fmt: skip
    data = RootDataModule(
        prepared, batch_size=training.batch_size, drop_last=training.drop_last,
        num_workers=training.workers,
    )  # fmt: skip
    threads = threads_for(
        training.threads, net, prepared.transform, training.batch_size, training.devices
    )
    console = job.console
    reading = reading_of(job.config, prepared.events("train"))
    with step_threads(threads):
        with progress_bar("training", shown=console.is_terminal, console=console) as report:
            log = EpochLog(job, report, lambda: data.seconds_waited, reading)
            with ledger_kept(job.folder, lambda: data.ledger):
                _train(job, module, data, log, saved)
        useful = useful_threads(net, prepared.transform, training.batch_size)
        log.say_limit((threads, useful))
        metrics = evaluate_run(load_run(job.folder), prepared, log.summary(), data.ledger)
    (job.folder / RESUME).unlink(missing_ok=True)
    return metrics


class EpochLines(Callback):
    """Tells an `EpochLog` what Lightning does."""

    def __init__(self, log: EpochLog) -> None:
        self._log = log

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._log.start()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self._log.batch(len(batch["weight"]))

    def on_validation_epoch_start(self, trainer: Any, module: Any) -> None:
        self._log.pause()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._log.finish({name: float(value) for name, value in trainer.callback_metrics.items()})


def _import_tensorboard() -> None:
    """Import PyTorch's writer for tensorboard without TensorFlow, which takes seconds.

    Where it is installed, tensorboard imports it to write files; its own substitute does as well.
    """
    if "tensorflow" in sys.modules or "torch.utils.tensorboard" in sys.modules:
        return
    compat = import_module("tensorboard.compat")
    lazy, compat.tf = compat.tf, import_module("tensorboard.compat.tensorflow_stub")  # type: ignore[attr-defined]
    try:
        import_module("torch.utils.tensorboard")
    finally:
        compat.tf = lazy  # type: ignore[attr-defined]  # for all others


def _train(
    job: TrainingJob, module: EventModule, data: RootDataModule, log: EpochLog, saved: Path | None
) -> None:
    training, folder = job.config.training, job.folder
    checkpoint = ModelCheckpoint(
        folder, Path(CHECKPOINT).stem, monitor=job.monitor, save_weights_only=False,
        enable_version_counter=False,
    )  # fmt: skip
    callbacks: list[Callback] = [
        checkpoint, EarlyStopping(job.monitor, patience=training.patience), EpochLines(log),
    ]  # fmt: skip
    _import_tensorboard()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings(), _tensor_cores(), Signals(job.tell) as signals:
        # advice on settings that are the user's choice here
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists.*")
        warnings.filterwarnings("ignore", ".*has `__len__` defined.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*Total length of `RootLoader`.*is zero.*")
        warnings.filterwarnings("ignore", UNDEFINED_AUC)
        trainer = lightning.Trainer(
            max_epochs=training.epochs,
            accelerator=training.accelerator,
            devices=training.devices,
            logger=[
                CSVLogger(folder, "logs", _csv_version(folder)),
                TensorBoardLogger(folder, "logs", "tb"),
            ],
            callbacks=[*callbacks, Resumable(log, signals, folder / RESUME, training.seed)],
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        try:
            trainer.fit(module, data, ckpt_path=saved, weights_only=True)
        except WorkerError as error:  # a batch system's signal may reach the workers first
            if not signals.number or not (folder / RESUME).is_file():
                raise
            raise interrupted(signals.number, folder) from error


@contextmanager
def _tensor_cores() -> Iterator[None]:
    """Let GPUs multiply float32 in TF32, and leave torch as it was."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _csv_version(folder: Path) -> str:
    """A folder of its own for each part of a training that was broken off: a logger begins anew."""
    parts = len(list((folder / "logs").glob("csv*")))
    return f"csv-{parts + 1}" if parts else "csv"
