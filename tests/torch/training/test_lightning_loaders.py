"""What Lightning does to loaders beyond `fit`: it makes them anew, and sends them to processes."""

from __future__ import annotations

import inspect
import logging
import warnings
from multiprocessing.reduction import ForkingPickler
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import uproot
from lightning.pytorch.callbacks import Callback
from torch import nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch import EventModule, FeedForward, RootDataModule, RootIterableDataset
from hepdata_adapters.torch.data.loader import RootLoader

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*has `__len__` defined.*"),
    pytest.mark.filterwarnings("ignore:.*turning off the .* dataloader shuffling.*"),
    pytest.mark.filterwarnings("ignore:.*no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]
KIND = "events of a short last batch, left out"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("lightning")
    samples = {}
    for label, name in enumerate(("background", "signal")):
        values = np.random.default_rng(label).normal(label, 1, 250)
        with uproot.recreate(folder / f"{name}.root") as file:
            file["Events"] = {"x": values}
        samples[str(folder / f"{name}.root")] = label
    return prepare(samples, {}, progress=False)


def trainer_of(**options: Any) -> lightning.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    quiet = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "num_sanity_val_steps": 0, "enable_checkpointing": False,
    }  # fmt: skip
    return lightning.Trainer(**quiet | options)


def events_of(batches: Any) -> list[list[int]]:
    return [row for batch in batches for row in batch["event"].tolist()]


class Seen(Callback):
    """The events of each training batch, by epoch."""

    def __init__(self) -> None:
        self.epochs: list[list[list[int]]] = []

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.epochs.append([])

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, i: int) -> None:
        self.epochs[-1] += batch["event"].tolist()


@pytest.mark.parametrize("own_loader", [False, True])
def test_overfit_batches_trains_on_the_same_mixed_batches_in_each_epoch(prepared, own_loader):
    data = RootDataModule(prepared, batch_size=40)
    loader = RootIterableDataset(prepared, split="train", batch_size=40).loader()
    seen = Seen()
    trainer = trainer_of(max_epochs=3, overfit_batches=2, callbacks=[seen])
    trainer.fit(EventModule(FeedForward(1)), loader if own_loader else data)
    first = events_of(list(RootIterableDataset(prepared, split="train", batch_size=40))[:2])
    assert seen.epochs == [first, first, first]
    assert {file for file, _ in first} == {0, 1}
    assert isinstance(trainer.train_dataloader, RootLoader)


def test_a_state_saved_while_overfitting_is_that_of_the_loader_in_use(prepared):
    data = RootDataModule(prepared, batch_size=40)

    class Saves(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            states.append(data.state_dict()["train"]["batches"])

    states: list[int] = []
    trainer_of(max_epochs=1, overfit_batches=3, callbacks=[Saves()]).fit(
        EventModule(FeedForward(1)), data
    )
    assert states == [1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_predict_reads_a_loader_once_in_order_and_goes_on_where_it_was(prepared, workers):
    dataset = RootIterableDataset(prepared, batch_size=64, shuffle=False, progress=False)
    module = EventModule(FeedForward(1))
    loader = dataset.loader(num_workers=workers)
    found = trainer_of().predict(module, loader)
    plain = list(dataset)
    assert events_of(found) == events_of(plain)
    with torch.no_grad():
        expected = module.eval()(torch.cat([batch["x"] for batch in plain]))
    assert torch.allclose(torch.cat([batch["score"] for batch in found]), expected)
    if workers:
        return
    state = loader.state_dict()
    loader.load_state_dict({**state, "epoch": 0, "batches": 5})
    assert events_of(trainer_of().predict(module, loader)) == events_of(plain)[5 * 64 :]


@pytest.mark.parametrize(("split", "events"), [("test", None), ("validation", None), (None, 500)])
def test_the_data_module_predicts_its_predict_split(prepared, capsys, split, events):
    chosen = {} if split == "test" else {"predict_split": split}
    found = trainer_of().predict(EventModule(FeedForward(1)), RootDataModule(prepared, **chosen))
    assert len(events_of(found)) == (events or prepared.events(split))
    assert events_of(found) == sorted(events_of(found))
    assert capsys.readouterr().err == ""  # to predict is not to train


def test_an_unknown_predict_split_is_refused(prepared):
    with pytest.raises(ConfigError, match="split is one of train, validation, test or None"):
        RootDataModule(prepared, predict_split="all")


def test_a_data_module_goes_to_spawned_ranks_after_its_loaders_were_made(prepared):
    data = RootDataModule(prepared, batch_size=40, num_workers=1)
    loader = data.train_dataloader()
    next(iter(loader))  # its workers live
    again = ForkingPickler.loads(ForkingPickler.dumps(data))
    assert events_of(again.dataset("train")) == events_of(data.dataset("train"))


def test_a_loader_takes_what_the_dataset_decides_only_as_it_is(prepared):
    dataset = RootIterableDataset(prepared, batch_size=64, progress=False)
    same = dict.fromkeys(("batch_size", "sampler", "batch_sampler")) | {"drop_last": False}
    assert len(dataset.loader(**same, shuffle=None, in_order=True)) == len(dataset)
    with pytest.raises(ConfigError) as error:
        dataset.loader(drop_last=True, batch_size=32, sampler=range(3))
    assert "RootIterableDataset(…, batch_size=…, drop_last=…)" in str(error.value)
    assert "a loader takes no sampler" in str(error.value)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))


def one_left(prepared: Dataset) -> int:
    """A batch size with a last batch of one training event."""
    events = prepared.events("train")
    return next(size for size in range(8, events) if events % size == 1)


def test_batch_norm_takes_a_last_batch_of_one_event_and_says_how_to_leave_it_out(prepared):
    module, size = EventModule(normalised()), one_left(prepared)
    with pytest.warns(UserWarning, match="drop_last=True of RootDataModule"):
        trainer_of(max_epochs=1).fit(module, RootDataModule(prepared, batch_size=size))
    layer = module.scorer.net[1]
    assert layer.num_batches_tracked == prepared.events("train") // size
    assert layer.training
    with warnings.catch_warnings():  # the advice works
        warnings.filterwarnings("error", message="BatchNorm")
        data = RootDataModule(prepared, batch_size=size, drop_last=True)
        trainer_of(max_epochs=1).fit(EventModule(normalised()), data)
    assert data.ledger.count(KIND) == 1


def test_batch_norm_without_statistics_refuses_one_event_with_advice(prepared):
    with pytest.raises(ConfigError, match=r"raise batch_size.*training.drop_last: true"):
        trainer_of(max_epochs=1).fit(
            EventModule(normalised()), RootDataModule(prepared, batch_size=1)
        )


def test_drop_last_of_a_data_module_is_of_training_alone(prepared):
    data = RootDataModule(prepared, batch_size=48, drop_last=True)
    assert [len(batch["x"]) for batch in data.train_dataloader()] == [48] * (
        prepared.events("train") // 48
    )
    assert len(events_of(data.val_dataloader())) == prepared.events("validation")


def test_a_module_is_loaded_around_a_network_that_is_given(prepared, tmp_path):
    module = EventModule(FeedForward(1), "binary", learning_rate=0.5)
    trainer = trainer_of(max_epochs=1)
    trainer.fit(module, RootDataModule(prepared, batch_size=200))
    path = tmp_path / "module.ckpt"
    trainer.save_checkpoint(path)
    with pytest.raises(ConfigError, match=r"load_from_checkpoint\('.*module.ckpt', net=…\)"):
        EventModule.load_from_checkpoint(path)
    again = EventModule.load_from_checkpoint(path, net=FeedForward(1), weights_only=True)
    assert (again.task, again.learning_rate, again.inputs) == ("binary", 0.5, ("x",))
    batch = next(iter(RootIterableDataset(prepared, split="test", batch_size=10)))
    with torch.no_grad():
        assert torch.equal(again.eval()(batch), module.eval()(batch["x"])), "of a whole batch"


def test_a_task_that_is_none_is_refused_with_the_names_of_those_that_are():
    with pytest.raises(ConfigError, match="one of binary, multiclass, regression, not 'classif"):
        EventModule(FeedForward(1), "classification")


def test_the_signature_of_a_data_module_names_the_keys_of_a_config_for_lightning_cli(prepared):
    names = inspect.signature(RootDataModule).parameters
    assert {"exclude", "features", "split_by", "sampling", "task"} <= names.keys()
    assert "options" not in names
    path = prepared.manifest.files[0].url
    with pytest.raises(ConfigError, match="exclude: no branch matches 'nothing'"):
        RootDataModule({path: 0}, exclude=["nothing"], progress=False)
    data = RootDataModule({path: 0}, sampling=None, task=None, progress=False)  # as it hands on
    assert data.num_features == 1


def test_the_training_loss_is_the_mean_over_events_and_nan_stays_nan(prepared):
    batches = list(RootIterableDataset(prepared, split="train", batch_size=300))
    module = EventModule(nn.Linear(1, 1))
    trainer = trainer_of(max_epochs=1, limit_val_batches=0)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    trainer.fit(module, RootDataModule(prepared, batch_size=300))
    x, label = (torch.cat([batch[name] for batch in batches]) for name in ("x", "label"))
    with torch.no_grad():
        logits = module.scorer.net(x)[:, 0]
    expected = nn.functional.binary_cross_entropy_with_logits(logits, label.float())
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(float(expected), rel=1e-6)
    with torch.no_grad():
        module.scorer.net.bias.fill_(torch.nan)
    trainer_of(max_epochs=1, limit_val_batches=0, callbacks=[Diverged()]).fit(
        module, RootDataModule(prepared, batch_size=300)
    )


class Diverged(Callback):
    """The training loss must be seen to be NaN."""

    def on_train_end(self, trainer: Any, module: Any) -> None:
        assert torch.isnan(trainer.callback_metrics["train_loss"])


class ByHand(Callback):
    """What Lightning logged in each epoch, beside what is computed from the steps themselves."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.expected: list[dict[str, float]] = []
        self.losses: list[tuple[float, int]] = []

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, i: int) -> None:
        self.losses.append((float(out["loss"]), len(batch["label"])))

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.logged.append({name: float(v) for name, v in trainer.callback_metrics.items()})
        batches = list(trainer.datamodule.dataset("validation"))
        label = torch.cat([batch["label"] for batch in batches])
        with torch.no_grad():
            logits = module.scorer.net(torch.cat([batch["x"] for batch in batches]))[:, 0]
        losses, sizes = zip(*self.losses, strict=True)
        self.expected.append({
            "train_loss": np.average(losses, weights=sizes),
            "validation_loss": float(
                nn.functional.binary_cross_entropy_with_logits(logits, label)
            ),
            "validation_accuracy": float(((logits > 0) == label).float().mean()),
        })  # fmt: skip
        self.losses.clear()


def test_each_epoch_logs_the_losses_and_metrics_of_all_its_events(prepared):
    data = RootDataModule(prepared, batch_size=16, progress=False)
    module = EventModule(FeedForward(data.num_features, dropout=0.0), learning_rate=0.05)
    notes = ByHand()
    for _ in range(2):  # with the same module, which starts anew
        trainer_of(callbacks=[notes], max_epochs=3).fit(module, data)
    assert len(notes.logged) == 6
    for logged, expected in zip(notes.logged, notes.expected, strict=True):
        assert {n: logged[n] for n in expected} == pytest.approx(expected, rel=1e-5)
    assert len({logged["validation_loss"] for logged in notes.logged}) == 6
