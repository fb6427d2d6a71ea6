"""A training with Keras that can stop after any batch, and go on at the epoch it was in."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import keras

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.runs.run_folder import write_json
from hepdata_adapters.common.runs.signals import Signals
from hepdata_adapters.common.runs.training import EpochLog, interrupted

RESUME = "resume.json"


class Resumable(keras.callbacks.Callback):
    """Saves what is needed to go on before the first epoch and after each, in the run folder.

    Weights and optimizer are in a file of their epoch's number, which the state names last. It
    comes after the callbacks whose states it saves.
    """

    def __init__(
        self,
        folder: Path,
        log: EpochLog,
        signals: Signals,
        best: keras.callbacks.ModelCheckpoint,
        patience: keras.callbacks.EarlyStopping,
        state: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self._folder, self._log, self._signals = folder, log, signals
        self._best, self._patience, self._state = best, patience, state

    def on_train_begin(self, logs: Any = None) -> None:
        if self._state is None:
            self._save(0)
            return
        if not self.model.optimizer.built:  # Keras does it in the first step
            self.model.optimizer.build(self.model.trainable_variables)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping variable loading")  # nothing may be missing
            self.model.load_weights(self._folder / self._state["weights"])
        for generator, value in zip(self._generators(), self._state["random"], strict=True):
            generator.assign(value)
        self._log.load_state(self._state["log"])
        self._best.best = self._state["best"]
        self._patience.best = self._state["patience"]["best"]
        self._patience.wait = self._state["patience"]["wait"]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._stop()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._save(epoch + 1)
        self._stop()

    def _stop(self) -> None:
        if self._signals.number:
            raise interrupted(self._signals.number, self._folder)

    def _generators(self) -> list[Any]:
        """The states of random generators, of dropout: Keras saves them with no weights."""
        return [v for v in self.model.variables if v.path.endswith("seed_generator_state")]

    def _save(self, epoch: int) -> None:
        weights = f"resume-{epoch}.weights.h5"
        self.model.save_weights(self._folder / weights, overwrite=True)
        patience = {"best": _number(self._patience.best), "wait": int(self._patience.wait)}
        write_json(
            self._folder / RESUME,
            {
                "epoch": epoch,
                "weights": weights,
                "best": _number(self._best.best),
                "patience": patience,
                "log": self._log.state(),
                "random": [generator.numpy().tolist() for generator in self._generators()],
                # an early stop is no place to go on from
                "stopped": bool(self.model.stop_training),
            },
        )
        forget(self._folder, weights)


def read_state(folder: Path) -> dict[str, Any]:
    """The state of a training that was broken off. Raises ConfigError if it is none."""
    try:
        state = json.loads((folder / RESUME).read_bytes())
        known = {"epoch", "weights", "best", "patience", "log", "random", "stopped"}
        if state.keys() == known and state["weights"] == f"resume-{int(state['epoch'])}.weights.h5":
            return dict(state)
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    raise ConfigError(f"{folder / RESUME} is corrupt: train anew with --overwrite")


def forget(folder: Path, but: str = "") -> None:
    """Remove the weights to go on from, but those in use; the state too, where none are."""
    for path in folder.glob("resume-*.weights.h5"):
        if path.name != but:
            path.unlink()
    if not but:
        (folder / RESUME).unlink(missing_ok=True)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
