"""A training with Lightning that can stop after any batch, and go on as if it had not."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from lightning.pytorch.callbacks import Checkpoint

from hepdata_adapters.common.core.errors import TrainingInterruptedError
from hepdata_adapters.common.core.hashing import key
from hepdata_adapters.common.core.writing import whole_file
from hepdata_adapters.common.runs.signals import Signals
from hepdata_adapters.common.runs.training import EpochLog, interrupted


def seed_device(number: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of the device that trains: `torch.manual_seed`, in a step.

    That one seeds all kinds of devices. For each that is not in use it formats the stack and keeps
    it, every time: 0.4 ms a step here, and memory that grows with the steps.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(number)
    elif device.type != "cpu":
        torch.manual_seed(number)


class Resumable(Checkpoint):
    """Saves what is needed to go on: after each epoch, and after the batch of a signal.

    The randomness of a step (dropout) is made of its number, so that it is the same in a training
    that went on. As a `Checkpoint` it comes after all other callbacks, whose states it saves.
    """

    def __init__(self, log: EpochLog, signals: Signals, path: Path, seed: int) -> None:
        self._log, self._signals, self._path, self._seed = log, signals, path, seed
        self._ended = False  # by an early stop, of which Lightning's counters say nothing

    def state_dict(self) -> dict[str, Any]:
        return {"log": self._log.state(), "ended": self._ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._log.load_state(state_dict["log"])
        self._ended = state_dict["ended"]

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._signals.take()  # from Lightning, which would stop in the middle of a validation
        trainer.should_stop = self._ended

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        number = key("step", self._seed, trainer.global_step, trainer.global_rank)
        seed_device(number, module.device)

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # after the last one come the validation and the end of the epoch, and then we do
        if batch_idx + 1 < trainer.num_training_batches and self._stops(trainer):
            self._save(trainer)
            raise self._interrupted()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._ended = trainer.should_stop
        self._save(trainer)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        # not at the end of the epoch before: what it logged is written only after that
        if self._stops(trainer):
            raise self._interrupted()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if self._stops(trainer):
            raise self._interrupted()

    def _interrupted(self) -> TrainingInterruptedError:
        # another rank may have got the signal
        return interrupted(self._signals.number or SIGTERM, self._path.parent)

    def _stops(self, trainer: Any) -> bool:
        stops = bool(self._signals.number)
        if trainer.world_size > 1:  # a signal reaches the ranks at different batches, or one alone
            stops = trainer.strategy.reduce_boolean_decision(stops, all=False)
        return stops

    def _save(self, trainer: Any) -> None:
        # of all ranks, whose states it gathers; rank zero writes
        zero = trainer.is_global_zero
        with whole_file(self._path) if zero else nullcontext(self._path) as partial:
            trainer.save_checkpoint(partial)
