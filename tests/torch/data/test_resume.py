"""Stopping and resuming: the exact next event, whoever goes on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from hepdata_adapters.common.core.errors import ConfigError, StateError
from hepdata_adapters.common.plan.cursor import Cursor
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import Epoch, EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch import EventModule, FeedForward, RootDataModule, RootIterableDataset
from tests.helpers.samples import write_events

GLOBAL_BATCH = 24  # of 1, 2, 3, 4, 6 or 8 ranks
SIZES = 201, 5, 30
OPTIONS = {"features": ["MET", "Jet_pt"], "sampling": {"chunk_size": 20}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("resume")
    return [write_events(folder / f"{n}.root", size, n, step=16) for n, size in enumerate(SIZES)]


@pytest.fixture
def prepared(files) -> Dataset:
    return prepare(labels_of(files), OPTIONS, progress=False)


def labels_of(files: list[Path]) -> dict[str, int]:
    return {str(path): number % 2 for number, path in enumerate(files)}


def dataset_of(prepared: Dataset, **options: Any) -> RootIterableDataset:
    return RootIterableDataset(prepared, **{"batch_size": GLOBAL_BATCH} | options)


def frozen(batches: Any) -> list[dict[str, tuple[Any, ...]]]:
    """Batches as bytes, for a comparison that forgives nothing."""
    return [
        {name: (values.dtype, values.shape, values.numpy().tobytes())
         for name, values in batch.items()}
        for batch in batches
    ]  # fmt: skip


def test_interrupted_at_every_batch_and_resumed_with_other_ranks_and_workers(prepared):
    """8 → 4 → 6 → 8 ranks; the rows of the ranks, one after the other, are the global batch."""
    whole, _ = delivered(prepared, None, ranks=8, workers=0, count=None)
    assert len(whole) == 10
    assert sorted(event for batch in whole for event in batch) == [
        (file, entry) for file, size in enumerate(SIZES) for entry in range(size)
    ]
    for first in range(len(whole) + 1):
        found, state = delivered(prepared, None, ranks=8, workers=3, count=first)
        for ranks, workers, count in ((4, 2, 1), (6, 5, 2), (8, 1, None)):
            if len(found) == len(whole):  # a state at the end is the next epoch
                break
            more, state = delivered(prepared, state, ranks=ranks, workers=workers, count=count)
            found += more
        assert found == whole


def delivered(
    prepared: Dataset, state: dict[str, Any] | None, ranks: int, workers: int, count: int | None
) -> tuple[list[list[tuple[int, int]]], dict[str, Any]]:
    """Events of the next global batches of all ranks, and the state after them."""
    shares, states = [], []
    with EventStream(prepared, None) as stream:
        for rank in range(ranks):
            wanted = EpochOptions(GLOBAL_BATCH // ranks, True, seed=3).epoch(
                rank=rank, world_size=ranks
            )
            if state is not None:
                wanted = wanted.resumed(Cursor.of(state), prepared, None)
            shares.append(list(islice(in_turn(wanted, stream, max(workers, 1)), count)))
            reached = wanted.cursor(prepared, None)
            reached = reached.model_copy(update={"batches": reached.batches + len(shares[-1])})
            states.append(reached.state())
    assert all(state == states[0] for state in states)
    batches = [
        [tuple(event) for part in parts for event in part["event"].tolist() if event[0] >= 0]
        for parts in zip(*shares, strict=True)
    ]
    return batches, states[0]


def in_turn(epoch: Epoch, stream: EventStream, workers: int) -> Iterator[dict[str, Any]]:
    """The batches of the workers in the order in which a DataLoader asks for them."""
    sources = [epoch.batches(stream, None, worker, workers) for worker in range(workers)]
    while True:
        for source in sources:
            batch = next(source, None)
            if batch is None:
                return
            yield batch


def test_loaders_of_several_ranks_have_one_state_and_resume_as_one_rank(prepared):
    whole = frozen(dataset_of(prepared).loader())
    for stop in (0, 1, 9, 10):
        states, parts = [], []
        for rank in range(2):
            loader = dataset_of(
                prepared, batch_size=GLOBAL_BATCH // 2, rank=rank, world_size=2, canonical_ranks=1
            ).loader()
            parts.append(list(islice(loader, stop)))
            states.append(loader.state_dict())
        assert states[0] == states[1]
        assert len(json.dumps(states[0])) < 1024
        joined = [
            {name: torch.cat([one[name], two[name]]) for name in one}
            for one, two in zip(*parts, strict=True)
        ]
        loader = dataset_of(prepared).loader()
        loader.load_state_dict(json.loads(json.dumps(states[0])))
        if stop < 10:
            assert frozen(joined) + frozen(loader) == whole
        else:
            other = dataset_of(prepared, epoch=1)
            assert frozen(loader) == frozen(other.loader())


@pytest.mark.parametrize("workers", [(2, 0, 3), (0, 1, 2)])
def test_real_workers_go_on_byte_for_byte(prepared, workers):
    whole = frozen(dataset_of(prepared, epoch=4).loader())
    found: list[Any] = []
    state = dataset_of(prepared, epoch=4).loader().state_dict()
    for count, number in zip((3, 4, None), workers, strict=True):
        loader = dataset_of(prepared).loader(num_workers=number)
        loader.load_state_dict(state)
        found += frozen(islice(loader, count))
        state = loader.state_dict()
        assert state["epoch"] == 4
        assert state["batches"] == len(found), "batches held ready do not count"
    assert found == whole


def test_running_workers_follow_a_state_with_its_canonical_counts(prepared):
    of_other = [
        frozen(dataset_of(prepared, canonical_ranks=4, canonical_workers=5, epoch=epoch))
        for epoch in range(2)
    ]
    taken = dataset_of(prepared, canonical_ranks=4, canonical_workers=5).loader()
    next(iter(taken))
    loader = dataset_of(prepared).loader(num_workers=1)
    mine = frozen(loader)
    pids = [worker.pid for worker in loader._iterator._workers]
    assert mine != of_other[0]
    loader.load_state_dict(taken.state_dict())
    assert frozen(loader) == of_other[0][1:]
    assert frozen(loader) == of_other[1], "later epochs keep to the counts of the state"
    assert [worker.pid for worker in loader._iterator._workers] == pids
    mine_anew = dataset_of(prepared).loader().state_dict()
    loader.load_state_dict(mine_anew)
    assert frozen(loader) == mine, "each state brings its own counts"


def test_epochs_follow_each_other_and_a_pass_broken_off_begins_anew(prepared):
    epochs = [frozen(dataset_of(prepared, epoch=epoch)) for epoch in range(3)]
    loader = dataset_of(prepared).loader()
    assert len(loader) == 10
    assert frozen(islice(loader, 3)) == epochs[0][:3]
    assert loader.state_dict()["batches"] == 3
    assert frozen(loader) == epochs[0]
    assert frozen(loader) == epochs[1]
    loader.load_state_dict(loader.state_dict())
    assert frozen(loader) == epochs[2]
    loader.set_epoch(1)
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 0)
    assert frozen(loader) == epochs[1]


@pytest.mark.parametrize("options", [{"events_per_epoch": 100}, {"repeat": True}])
def test_streams_without_natural_epochs_resume(prepared, options):
    loader = dataset_of(prepared, **options).loader()
    whole = [batch for _ in range(6) for batch in frozen(islice(loader, 5))]
    if "repeat" in options:
        whole = frozen(islice(loader, 30))
    for stop in (3, 12, 27):
        loader = dataset_of(prepared, **options).loader()
        found: list[Any] = []
        while len(found) < stop:
            found += frozen(islice(loader, stop - len(found)))
        resumed = dataset_of(prepared, **options).loader()
        resumed.load_state_dict(loader.state_dict())
        while len(found) < 30:
            found += frozen(islice(resumed, 30 - len(found)))
        assert found == whole


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 9}, "seed is 9, was 0"),
        ({"batch_size": 12}, "batch_size is 12, was 24"),
        ({"split": "train"}, "split is train, was None"),
        ({"shuffle": False}, "shuffle is False, was True"),
        ({"uneven": "drop"}, "other sampling"),
        ({"canonical_workers": 5}, "canonical_workers is 5, was 4"),
    ],
)
def test_a_state_of_another_run_is_refused_with_what_differs(prepared, change, difference):
    state = dataset_of(prepared, seed=0).loader().state_dict()
    with pytest.raises(StateError, match=difference):
        dataset_of(prepared, **{"seed": 0} | change).loader().load_state_dict(state)


def test_a_state_of_other_data_features_or_format_is_refused(prepared, files):
    state = dataset_of(prepared).loader().state_dict()
    fewer = prepare(labels_of(files[:2]), OPTIONS, progress=False)
    with pytest.raises(StateError, match="other data"):
        dataset_of(fewer).loader().load_state_dict(state)
    other = prepare(labels_of(files), OPTIONS | {"features": ["MET"]}, progress=False)
    with pytest.raises(StateError, match="other features"):
        dataset_of(other).loader().load_state_dict(state)
    for broken in ({}, {"epoch": 1}, state | {"version": 2}, state | {"batches": -1}):
        with pytest.raises(StateError, match="no state of a loader"):
            dataset_of(prepared).loader().load_state_dict(broken)


def test_what_only_the_dataset_can_decide_is_refused(prepared):
    with pytest.raises(ConfigError, match="single events has no loader: give it a batch_size"):
        dataset_of(prepared, batch_size=None).loader()
    with pytest.raises(ConfigError, match="the dataset decides drop_last, shuffle"):
        dataset_of(prepared).loader(shuffle=True, drop_last=True)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata 0.11
@pytest.mark.parametrize(
    ("workers", "batch_size", "of_loader"), [(0, GLOBAL_BATCH, None), (2, GLOBAL_BATCH, None),
                                             (2, None, GLOBAL_BATCH)]
)  # fmt: skip
def test_the_loader_of_torchdata_resumes(prepared, workers, batch_size, of_loader):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader_of(epoch: int) -> Any:
        dataset = dataset_of(prepared, batch_size=batch_size, epoch=epoch)
        return stateful.StatefulDataLoader(dataset, batch_size=of_loader, num_workers=workers)

    whole = frozen(loader_of(2))
    for stop in (3, 4):
        loader = loader_of(2)
        found = frozen(islice(loader, stop))
        resumed = loader_of(0)
        resumed.load_state_dict(loader.state_dict())
        assert found + frozen(resumed) == whole


def test_a_state_of_torchdata_says_how_many_workers_it_wants(prepared):
    passing = iter(dataset_of(prepared))
    next(passing)
    with pytest.raises(StateError, match="of 2 DataLoader workers, here are 1"):
        passing.load_state_dict(passing.state_dict() | {"workers": 2})


class Recorder(lightning.Callback):
    """Notes the events of each training batch, and saves a checkpoint after some."""

    def __init__(self, folder: Path, save_after: int | None = None) -> None:
        self.events: list[list[tuple[int, int]]] = []
        self._path, self._save_after = folder / "stopped.ckpt", save_after

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.events.append([tuple(event) for event in batch["event"].tolist()])
        if len(self.events) == self._save_after:
            trainer.save_checkpoint(self._path)
            raise KeyboardInterrupt


def trained(files, folder, *, workers=0, stop=None, resume=None, epochs=2, **options):
    """The events of the batches of a training, which may stop after some or resume."""
    data = RootDataModule(
        labels_of(files), batch_size=16, num_workers=workers, progress=False,
        split={"train": 0.7, "validation": 0.3, "test": 0}, **OPTIONS,
    )  # fmt: skip
    recorder = Recorder(folder, stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        trainer = lightning.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
            callbacks=[recorder, *options.pop("callbacks", [])],
            enable_checkpointing=options.pop("checkpoints", False), **options,
        )  # fmt: skip
        module = EventModule(FeedForward(data.num_features), "binary")
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=False)
        except SystemExit:  # what Lightning makes of the interrupt
            assert stop is not None
    return recorder.events


def test_lightning_resumes_in_the_middle_of_any_epoch(files, tmp_path):
    whole = trained(files, tmp_path)
    length = len(whole) // 2
    assert whole[:length] != whole[length:]
    for stop in (1, length - 1, length, length + 2):
        found = trained(files, tmp_path, stop=stop)
        found += trained(files, tmp_path, resume=tmp_path / "stopped.ckpt")
        assert found == whole, stop


def test_lightning_resumes_with_other_numbers_of_workers(files, tmp_path):
    options = {"epochs": 1, "limit_val_batches": 0}
    whole = trained(files, tmp_path, **options)
    found = trained(files, tmp_path, workers=1, stop=3, **options)
    found += trained(files, tmp_path, workers=2, resume=tmp_path / "stopped.ckpt", **options)
    assert found == whole


def test_lightning_resumes_a_checkpoint_of_the_end_of_an_epoch(files, tmp_path):
    whole = trained(files, tmp_path, epochs=3)
    length = len(whole) // 3
    saving = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "end", save_last=False)
    found = trained(files, tmp_path, epochs=1, callbacks=[saving], checkpoints=True)
    assert found == whole[:length]
    found += trained(files, tmp_path, epochs=3, resume=tmp_path / "end.ckpt")
    assert found == whole


def test_lightning_resumes_after_max_steps_of_a_checkpoint_every_n_steps(files, tmp_path):
    whole = trained(files, tmp_path)
    saving = lightning.pytorch.callbacks.ModelCheckpoint(
        tmp_path, "step", every_n_train_steps=4, save_on_train_epoch_end=False
    )
    found = trained(files, tmp_path, max_steps=4, callbacks=[saving], checkpoints=True)
    assert found == whole[:4]
    found += trained(files, tmp_path, resume=tmp_path / "step.ckpt")
    assert found == whole


def test_lightning_refuses_the_position_of_other_data(files, tmp_path):
    trained(files, tmp_path, stop=2)
    with pytest.raises(StateError, match="other data"):
        trained(files[:2], tmp_path, resume=tmp_path / "stopped.ckpt")
