"""Trainings that stop and go on: Lightning's epochs hold the events of the order of their number.

Each run notes (epoch, number in the epoch, events, loss) of each batch; nothing may differ from the
run that was not interrupted, where Lightning goes on in the middle of an epoch.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch import EventModule, RootDataModule
from tests.helpers.samples import write_events

BATCH, PER_EPOCH = 16, 6
Noted = list[tuple[int, int, tuple[tuple[int, int], ...], float]]
Save = Callable[[lightning.Trainer], None]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("restart")
    files = {
        str(write_events(folder / f"{n}.root", size, n, step=16)): n % 2
        for n, size in enumerate((45, 40, 20))
    }
    options = {
        "features": ["MET", "Jet_pt"],
        "split": {"files": {"validation": ["2.root"]}},
        "sampling": {"chunk_size": 20},
    }
    found = prepare(files, options, progress=False)
    assert -(-found.events("train") // BATCH) == PER_EPOCH
    return found


class Notes(lightning.Callback):
    """Notes each batch that is trained, and does something at a hook after some steps."""

    def __init__(self, hook: str = "", step: int = -1, act: Save | None = None) -> None:
        self.seen: Noted = []
        self._when, self._act = (hook, step), act

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        events = tuple(map(tuple, batch["event"].tolist()))
        self.seen.append((trainer.current_epoch, index, events, float(outputs["loss"])))
        self._at("on_train_batch_end", trainer)

    def on_train_batch_start(self, trainer, module, batch, index):
        self._at("on_train_batch_start", trainer)

    def on_validation_end(self, trainer, module):
        self._at("on_validation_end", trainer)

    def _at(self, hook, trainer):
        if self._act and self._when == (hook, trainer.global_step):
            self._act(trainer)


class Stopped(Exception):
    """What interrupts a run."""


def stop(trainer: lightning.Trainer) -> None:
    trainer.should_stop = True


def fail(trainer: lightning.Trainer) -> None:
    raise Stopped


def save_and_fail(path: Path) -> Save:
    def act(trainer: lightning.Trainer) -> None:
        trainer.save_checkpoint(path)
        raise Stopped

    return act


def run(prepared, folder, *, resume=False, note=None, workers=0, callbacks=(), **options) -> Noted:
    """Train, and leave the checkpoint ``a.ckpt`` behind; what was trained."""
    note = note or Notes()
    torch.manual_seed(3)
    data = RootDataModule(prepared, batch_size=BATCH, num_workers=workers, progress=False)
    module = EventModule(nn.Linear(data.num_features, 1), "binary", learning_rate=0.1)
    path, saving = folder / "a.ckpt", any(isinstance(c, ModelCheckpoint) for c in callbacks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        trainer = lightning.Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
            enable_model_summary=False, enable_checkpointing=saving, callbacks=[note, *callbacks],
            **{"limit_val_batches": 0} | options,
        )  # fmt: skip
        with contextlib.suppress(Stopped):
            trainer.fit(module, data, ckpt_path=path if resume else None, weights_only=False)
        if not saving and not path.exists():
            trainer.save_checkpoint(path)
    return note.seen


@pytest.fixture(scope="module")
def whole(prepared: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Noted:
    """The run that nothing interrupts."""
    seen = run(prepared, tmp_path_factory.mktemp("whole"), max_epochs=3)
    assert [row[:2] for row in seen] == [(e, b) for e in range(3) for b in range(PER_EPOCH)]
    assert len({row[2] for row in seen}) == len(seen), "each epoch has an order of its own"
    return seen


GOES_ON = {
    "max_steps in an epoch": {"max_steps": 4},
    "max_steps at the end of an epoch": {"max_steps": 6},
    "max_steps in a later epoch": {"max_steps": 9},
    "max_steps, validating": {"max_steps": 6, "limit_val_batches": 1},
    "max_steps, more in an epoch": {"max_steps": 4, "limit_train_batches": 4},
    "stopped early": {"note": ("on_train_batch_end", 4, stop)},
    "failed": {"note": ("on_train_batch_end", 9, fail)},
    "failed with a batch at hand": {"note": ("on_train_batch_start", 4, fail)},
    "failed after an epoch": {"note": ("on_train_batch_end", 6, fail)},
    "failed after a validation": {
        "val_check_interval": 3, "limit_val_batches": 1, "note": ("on_validation_end", 3, fail),
    },
    "saved": {"note": ("on_train_batch_end", 8, save_and_fail)},
    "saved at the end of an epoch": {"note": ("on_train_batch_end", 6, save_and_fail)},
    "saved with a batch at hand": {"note": ("on_train_batch_start", 8, save_and_fail)},
    "saved with the last batch at hand": {"note": ("on_train_batch_start", 5, save_and_fail)},
    "saved with the first batch at hand": {"note": ("on_train_batch_start", 6, save_and_fail)},
    "saved after a validation": {
        "val_check_interval": 3, "limit_val_batches": 1,
        "note": ("on_validation_end", 9, save_and_fail),
    },
}  # fmt: skip


def first_part(prepared: Dataset, folder: Path, note=None, **options: Any) -> Noted:
    if note:
        hook, step, act = note
        note = Notes(hook, step, act(folder / "a.ckpt") if act is save_and_fail else act)
    return run(prepared, folder, note=note, **{"max_epochs": 3} | options)


@pytest.mark.parametrize("kind", list(GOES_ON))
def test_goes_on_as_if_nothing_had_been(prepared, whole, tmp_path, kind):
    options = GOES_ON[kind]
    first = first_part(prepared, tmp_path, **options)
    same = {k: v for k, v in options.items() if "val" in k}
    for until in ({"max_steps": 18}, {"max_epochs": 3}, {"max_steps": 18, "max_epochs": 3}):
        cut = "max_steps" in options or kind == "stopped early"
        if cut and "max_steps" not in until and len(first) % PER_EPOCH:
            continue  # Lightning begins the next epoch
        rest = run(prepared, tmp_path, resume=True, **same, **until)
        assert first + rest == whole, (until, [row[:2] for row in first + rest])


@pytest.mark.parametrize("kind", ["max_steps in an epoch", "max_steps in a later epoch",
                                  "stopped early"])  # fmt: skip
@pytest.mark.parametrize("saved_by", ["the trainer", "ModelCheckpoint"])
def test_an_epoch_that_was_cut_is_not_delivered_to_the_next(
    prepared, whole, tmp_path, kind, saved_by
):
    saving = [ModelCheckpoint(tmp_path, "a")] if saved_by == "ModelCheckpoint" else []
    first = first_part(prepared, tmp_path, **GOES_ON[kind], callbacks=saving)
    assert first == whole[: len(first)]
    rest = run(prepared, tmp_path, resume=True, max_epochs=3)
    following = len(first) // PER_EPOCH + 1
    assert [row[:3] for row in rest] == [row[:3] for row in whole if row[0] >= following]


@pytest.mark.parametrize("until", [{"max_epochs": 3}, {"max_steps": 12}])
@pytest.mark.parametrize("saved_by", ["the trainer", "ModelCheckpoint"])
def test_limited_epochs_are_those_of_a_run_without_interruption(
    prepared, whole, tmp_path, until, saved_by
):
    limit = {"limit_train_batches": 4}
    uninterrupted = run(prepared, tmp_path, max_epochs=3, **limit)
    assert [r[:3] for r in uninterrupted] == [r[:3] for r in whole if r[1] < 4]
    (tmp_path / "a.ckpt").unlink()
    saving = [ModelCheckpoint(tmp_path, "a")] if saved_by == "ModelCheckpoint" else []
    first = run(prepared, tmp_path, max_epochs=1, callbacks=saving, **limit)
    rest = run(prepared, tmp_path, resume=True, **until, **limit)
    assert first + rest == uninterrupted, [row[:2] for row in first + rest]


@pytest.mark.parametrize("steps", [4, 6])
def test_goes_on_from_the_last_checkpoint_of_max_steps(prepared, whole, tmp_path, steps):
    saving = [ModelCheckpoint(tmp_path, "a")]
    first = run(prepared, tmp_path, max_steps=steps, callbacks=saving)
    rest = run(prepared, tmp_path, resume=True, max_steps=18)
    assert first + rest == whole, [row[:2] for row in first + rest]


@pytest.mark.parametrize(
    "options", [{"accumulate_grad_batches": 2}, {"reload_dataloaders_every_n_epochs": 1},
                {"workers": 1}],
)  # fmt: skip
def test_goes_on_with_gathered_gradients_and_new_loaders(prepared, whole, tmp_path, options):
    steps = 2 if "accumulate_grad_batches" in options else 4
    first = run(prepared, tmp_path, max_steps=steps, **options)
    rest = run(prepared, tmp_path, resume=True, max_epochs=3, max_steps=18, **options)
    assert [row[:3] for row in first + rest] == [row[:3] for row in whole]
