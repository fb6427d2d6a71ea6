"""``fit``: from a config to a run folder."""

from __future__ import annotations

import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from rich.console import Console

from hepdata_adapters.common.config import RunConfig
from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.ledger import Ledger
from hepdata_adapters.common.progress import progress_bar
from hepdata_adapters.common.samples import describe
from hepdata_adapters.common.stream import Dataset
from hepdata_adapters.torch.datamodule import RootDataModule
from hepdata_adapters.torch.evaluate import Metrics, all_splits, draw, metrics_of
from hepdata_adapters.torch.models import build_model, load_factory
from hepdata_adapters.torch.module import UNDEFINED_AUC, EventModule
from hepdata_adapters.torch.run import (
    CHECKPOINT,
    Run,
    load_run,
    num_outputs,
    output_names,
    save_inputs,
    write_json,
)


def fit(config: RunConfig, folder: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Train, evaluate and draw; everything goes to ``folder``. Returns the metrics.

    Raises ConfigError if the folder holds something already, or if there are no labels.
    """
    folder = Path(folder)
    console = Console(stderr=True)
    if config.model.factory:
        load_factory(config.model.factory)  # before the work, not after it
    _claim(folder, overwrite)
    with progress_bar("computing specs") as report:
        prepared = Dataset.prepare(config, progress=report)
    task = prepared.layout.task
    if task is None:
        raise ConfigError("no sample has a label: give each one 'label' (a number or a branch)")
    names = output_names(prepared)
    for line in describe(prepared):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    lightning.seed_everything(config.training.seed, verbose=False)
    outputs = num_outputs(task, len(names))
    net = build_model(config.model, prepared.transform.num_features, outputs)
    save_inputs(folder, config, prepared, names)
    module = EventModule(
        net, task, num_classes=len(names),
        learning_rate=config.training.learning_rate, weight_decay=config.training.weight_decay,
    )  # fmt: skip
    data = RootDataModule(
        prepared, batch_size=config.training.batch_size, num_workers=config.training.workers
    )
    started = time.perf_counter()
    with progress_bar("training", shown=console.is_terminal, console=console) as report:
        lines = EpochLines(console, prepared.specs.events("train"), report)
        _train(config, folder, module, data, lines)
    seconds = time.perf_counter() - started
    training = {
        "epochs": lines.epochs,
        "seconds": round(seconds, 2),
        "events": lines.events,
        "events_per_second": round(lines.events / max(lines.seconds, 1e-9)),
    }
    return evaluate_run(load_run(folder), prepared, training, data.ledger)


def evaluate_run(
    run: Run,
    prepared: Dataset | None = None,
    training: dict[str, Any] | None = None,
    ledger: Ledger | None = None,
) -> dict[str, Any]:
    """Metrics of all splits to metrics.json, pictures, and the ledger to ledger.json."""
    splits, evaluation = all_splits(run.scorer, prepared or run.prepare())
    metrics: dict[str, Metrics | dict[str, Any]] = {
        name: metrics_of(scored, run.task, len(run.class_names)) for name, scored in splits.items()
    }
    metrics["training"] = training or _read(run.folder / "metrics.json").get("training", {})
    before = _read(run.folder / "ledger.json").get("training", {})
    trained = before if ledger is None else ledger.to_dict()
    write_json(run.folder / "metrics.json", metrics)
    write_json(
        run.folder / "ledger.json", {"training": trained, "evaluation": evaluation.to_dict()}
    )
    draw(run.folder, splits, run.task, run.class_names)
    return metrics | {"ledger": str(evaluation)}


def _read(path: Path) -> dict[str, Any]:
    """What an earlier evaluation wrote, if anything."""
    return json.loads(path.read_text()) if path.is_file() else {}


class EpochLines(Callback):
    """One line an epoch (losses, metrics, events/s), above a bar with the time left."""

    def __init__(self, console: Console, events: int, report: Callable[[int, int], None]) -> None:
        self.console = console
        self.epochs = self.events = 0
        self.seconds = 0.0
        self._per_epoch, self._report = events, report
        self._started = self._rate = 0.0
        self._seen = 0
        self._running = False

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._started, self._seen, self._running = time.perf_counter(), 0, True

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        self._seen += len(batch["x"])
        self._report(self.events + self._seen, self._per_epoch * trainer.max_epochs)

    def on_validation_epoch_start(self, trainer: Any, module: Any) -> None:
        self._stop_clock()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._stop_clock()
        self.epochs += 1
        shown = {k: float(v) for k, v in trainer.callback_metrics.items()}
        text = "  ".join(f"{name} {value:.4f}" for name, value in sorted(shown.items()))
        self.console.print(
            f"epoch {self.epochs}/{trainer.max_epochs}  {text}  {self._rate:,.0f} events/s",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def _stop_clock(self) -> None:
        """Training ends where validation begins, or with the epoch if there is none."""
        if self._running:
            seconds = time.perf_counter() - self._started
            self.events += self._seen
            self.seconds += seconds
            self._rate = self._seen / max(seconds, 1e-9)
            self._seen, self._running = 0, False


def _train(
    config: RunConfig,
    folder: Path,
    module: EventModule,
    data: RootDataModule,
    lines: EpochLines,
) -> None:
    monitor = "validation_loss" if data.prepared.specs.events("validation") else "train_loss"
    checkpoint = ModelCheckpoint(
        folder, Path(CHECKPOINT).stem, monitor=monitor, save_weights_only=False,
        enable_version_counter=False,
    )  # fmt: skip
    callbacks: list[Callback] = [
        checkpoint, EarlyStopping(monitor, patience=config.training.patience), lines,
    ]  # fmt: skip
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_float32_matmul_precision("high")
    with warnings.catch_warnings():
        # advice on settings that are the user's choice here
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists.*")
        warnings.filterwarnings("ignore", ".*has `__len__` defined.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", ".*Total length of `EpochLoader`.*is zero.*")
        warnings.filterwarnings("ignore", UNDEFINED_AUC)
        trainer = lightning.Trainer(
            max_epochs=config.training.epochs,
            accelerator=config.training.accelerator,
            devices=config.training.devices,
            logger=[CSVLogger(folder, "logs", "csv"), TensorBoardLogger(folder, "logs", "tb")],
            callbacks=callbacks,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            default_root_dir=folder,
        )
        trainer.fit(module, data)


def _claim(folder: Path, overwrite: bool) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            raise ConfigError(f"{folder} is not empty: name another folder or say --overwrite")
        if not (folder / "config.yaml").is_file():
            raise ConfigError(f"{folder} is not a run folder, so it is not overwritten")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
