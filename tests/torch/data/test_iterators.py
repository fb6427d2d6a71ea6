"""Whole batches are batched once, iterators get all events or are refused, settings take effect."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch import EventModule, RootDataModule, RootIterableDataset
from tests.helpers.samples import write_events

EVENTS = 120


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("iterators")
    files = {
        str(write_events(folder / f"{n}.root", size, n, step=16)): n % 2
        for n, size in enumerate((50, 40, 30))
    }
    options = {"features": ["MET"], "split": {"files": {"validation": ["2.root"]}}}
    return prepare(files, options, progress=False)


def dataset_of(prepared: Dataset, batch_size: int | None = 10, **options: Any) -> Any:
    return RootIterableDataset(prepared, batch_size=batch_size, progress=False, **options)


def events_of(batches: Any) -> list[tuple[int, int]]:
    return [tuple(event) for batch in batches for event in batch["event"].tolist()]


# --- batches of batches ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 1}, {"batch_size": 4}, {"num_workers": 1}, {"drop_last": True}]
)
def test_whole_batches_are_not_batched_once_more(prepared, options):
    """They came as (1, 10, 2)."""
    with pytest.raises(
        ConfigError, match=r"write DataLoader\(dataset, batch_size=None\) or dataset.loader\(\)"
    ):
        next(iter(DataLoader(dataset_of(prepared), **options)))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11
def test_the_loader_of_torchdata_refuses_batches_of_batches(prepared):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    with pytest.raises(ConfigError, match="put together once more"):
        next(iter(stateful.StatefulDataLoader(dataset_of(prepared))))


def test_the_advice_works(prepared):
    loaders = [
        DataLoader(dataset_of(prepared), batch_size=None),
        dataset_of(prepared).loader(),
        DataLoader(dataset_of(prepared, None), batch_size=10),
        DataLoader(dataset_of(prepared), batch_size=1, collate_fn=lambda batches: batches[0]),
    ]
    for loader in loaders:
        batches = list(loader)
        assert batches[0]["x"].shape == (10, 1)
        assert len({*events_of(batches)}) == EVENTS


def test_a_batch_is_a_dict_for_all_who_ask(prepared):
    batch = next(iter(dataset_of(prepared)))
    for other in (copy.copy(batch), pickle.loads(pickle.dumps(batch)),
                  pytree.tree_map(lambda values: values.clone(), batch)):  # fmt: skip
        assert type(other) is type(batch)
        assert list(other) == list(batch)
        assert all(torch.equal(other[name], batch[name]) for name in batch)
    assert isinstance(batch, dict)


# --- several iterators -----------------------------------------------------------------------


def test_a_newer_iterator_with_workers_refuses_the_older_one(prepared):
    """Each got half of the events."""
    loader = dataset_of(prepared).loader(num_workers=1)
    with pytest.raises(ConfigError, match="a newer iterator of this loader has its worker"):
        list(zip(loader, loader, strict=True))
    assert len({*events_of(loader)}) == EVENTS
    older = iter(loader)
    next(older)
    assert len({*events_of(loader)}) == EVENTS, "an older one may stay, unused"
    with pytest.raises(ConfigError, match="make a loader for each"):
        next(older)
    assert len({*events_of(loader)}) == EVENTS


def test_iterators_without_workers_get_all_events_each(prepared):
    loader = dataset_of(prepared).loader()
    pairs = list(zip(loader, loader, strict=True))
    for side in range(2):
        assert len({*events_of(pair[side] for pair in pairs)}) == EVENTS


def test_threads_without_workers_get_all_events_each(prepared):
    dataset = dataset_of(prepared)
    found: list[list[Any]] = [[] for _ in range(3)]

    def read(mine: list[Any]) -> None:
        mine += events_of(DataLoader(dataset, batch_size=None))

    threads = [threading.Thread(target=read, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len({*mine}) for mine in found] == [EVENTS] * 3


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_size", "split", "shuffle", "seed", "prepared"])
def test_a_dataset_refuses_a_change_that_would_have_no_effect(prepared, name):
    dataset = dataset_of(prepared)
    with pytest.raises(ConfigError, match=rf"RootIterableDataset\(dataset.prepared, {name}=…\)"):
        setattr(dataset, name, 5)


@pytest.mark.parametrize("name", ["num_workers", "pin_memory", "prefetch_factor"])
def test_a_loader_refuses_a_change_that_would_have_no_effect(prepared, name):
    loader = dataset_of(prepared).loader()
    with pytest.raises(ConfigError, match=rf"{name} of a RootLoader cannot be changed"):
        setattr(loader, name, 2)


def test_settings_of_a_data_module_hold_from_then_on(prepared):
    data = RootDataModule(prepared, batch_size=10, progress=False)
    before = list(data.train_dataloader())
    assert [len(batch["x"]) for batch in before] == [10] * 9
    data.batch_size = 30
    assert [len(batch["x"]) for batch in data.train_dataloader()] == [30] * 3
    assert [len(batch["x"]) for batch in data.val_dataloader()] == [30]
    assert sum(data.ledger.to_dict()["events delivered"].values()) == 90 + 90 + 30
    data.batch_size, data.seed = 10, 77
    assert events_of(data.train_dataloader()) != events_of(before)
    data.events_per_epoch = 20
    assert len(data.train_dataloader()) == 2
    data.num_workers, data.pin_memory = 1, True
    loader = data.train_dataloader()
    assert (loader.num_workers, loader.pin_memory) == (1, True)
    data.batch_size = "many"
    with pytest.raises(ConfigError, match="batch_size is a whole number"):
        data.train_dataloader()


@pytest.mark.parametrize("trained_before", [False, True])
def test_the_batch_size_finder_has_an_effect(prepared, trained_before):
    data = RootDataModule(prepared, batch_size=4, progress=False)
    module = EventModule(nn.Linear(1, 1), "binary")
    sizes: list[int] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            sizes.append(len(batch["x"]))

    def trainer() -> lightning.Trainer:
        return lightning.Trainer(
            max_epochs=1, limit_train_batches=2, limit_val_batches=0, callbacks=[Watch()],
            accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        used = trainer()
        if trained_before:
            used.fit(module, data)
            used = trainer()
        found = Tuner(used).scale_batch_size(
            module, datamodule=data, init_val=4, max_trials=3, steps_per_trial=1
        )
        sizes.clear()
        trainer().fit(module, data)
    assert found == data.batch_size == 16
    assert sizes == [16, 16]


# --- which events ----------------------------------------------------------------------------


def test_all_events_are_said_to_be_delivered_where_one_would_train(prepared, tmp_path, capsys):
    RootIterableDataset(prepared, batch_size=10)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "all 120 events are delivered, with the 30 of validation and test; to train, say "
        "split='train'"
    )
    RootIterableDataset(prepared, batch_size=10, split="train")
    RootIterableDataset(prepared, batch_size=10, progress=False)
    path: Path = write_events(tmp_path / "unlabelled.root", 30)
    RootIterableDataset(prepare(str(path), {"features": ["MET"]}, progress=False))
    assert capsys.readouterr().err == ""


# --- tf.data ---------------------------------------------------------------------------------


def test_iterators_of_tensorflow_get_all_events_each(prepared, capsys):
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from hepdata_adapters.tf import root_dataset

    batches = root_dataset(prepared, batch_size=10)
    assert "all 120 events are delivered" in capsys.readouterr().err
    pairs = list(zip(batches, batches, strict=True))
    for side in range(2):
        found = [tuple(e) for pair in pairs for e in pair[side]["event"].numpy().tolist()]
        assert len({*found}) == EVENTS
    with pytest.raises(ConfigError, match=r"RootSource\(source.prepared, batch_size=…\)"):
        batches.source.batch_size = 20


def test_a_keras_fit_that_goes_on_follows_its_epochs(prepared):
    keras = pytest.importorskip("keras", reason="TensorFlow is not installed")
    from hepdata_adapters.tf import root_dataset

    class Note(keras.Model):
        def train_step(self, data):
            seen.append(data["event"].numpy().tolist())
            return {"batches": float(len(seen))}

        def call(self, x):
            return x

    def fitted(first: int, last: int) -> list[Any]:
        seen.clear()
        options: Any = {"batch_size": 10, "split": "train", "progress": False}
        train = root_dataset(prepared, **options)
        follow = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: train.source.set_epoch(epoch)
        )
        model = Note()
        model.compile(run_eagerly=True)
        model.fit(train, initial_epoch=first, epochs=last, callbacks=[follow], shuffle=False,
                  verbose=0)  # fmt: skip
        return list(seen)

    seen: list[Any] = []
    whole = fitted(0, 3)
    assert len(whole) == 27
    assert whole[:9] != whole[9:18]
    assert fitted(2, 3) == whole[18:]
