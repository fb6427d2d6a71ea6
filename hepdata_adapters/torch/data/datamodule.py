"""Train, validation and test loaders of one dataset, for Lightning."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import lightning

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.ledger import Ledger
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.plan.shard import Uneven
from hepdata_adapters.common.stream.dataset import Dataset, check_split
from hepdata_adapters.common.stream.prepare import Samples, prepare
from hepdata_adapters.torch.data.dataset import RootIterableDataset
from hepdata_adapters.torch.data.loader import RootLoader
from hepdata_adapters.torch.data.restart import batches_done, fitting, mend_counters

Position = Callable[[], tuple[int, int] | None]
Settings = dict[str, Any]


class RootDataModule(lightning.LightningDataModule):
    """ROOT files for ``Trainer.fit``: 64 % training, 16 % validation, 20 % test by default.

    Takes what `RootIterableDataset` takes. Training events are reshuffled each epoch (restarts
    included; with ``overfit_batches`` each epoch has the same batches), validation and test
    events come in file order. batch_size is per rank. events_per_epoch, uneven and drop_last are
    of training (the others pad). predict_split: what ``Trainer.predict`` reads, in file order;
    None for all events. num_workers: processes per split.
    All these are attributes, too; what is set (as Lightning's batch-size finder does) holds for
    the loaders made from then on.

    Checkpoints hold the position in the training events, mid-epoch too: ``fit(...,
    ckpt_path=...)`` goes on with the exact next event, with any number of workers, and of ranks
    with the same global batch size. Where Lightning begins an epoch, so does the order of its
    number, however short the epoch before was cut. Raises StateError for a checkpoint of other
    data.

    >>> from lightning import Trainer
    >>> data = RootDataModule({"signal.root": 1, "background.root": 0})  # doctest: +SKIP
    >>> Trainer().fit(module, data)  # doctest: +SKIP
    """

    def __init__(
        self,
        samples: Samples | Dataset,
        *,
        batch_size: int = 256,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int | None = None,
        uneven: Uneven = "pad",
        canonical_ranks: int | None = None,
        canonical_workers: int | None = None,
        events_per_epoch: int | None = None,
        drop_last: bool = False,
        predict_split: SplitName | None = "test",
        progress: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        check_split(predict_split)
        # LightningCLI hands on what was not given, too
        options = {name: value for name, value in options.items() if value is not None}
        self.prepared = prepare(samples, options, progress=progress)
        self.batch_size, self.num_workers, self.pin_memory = batch_size, num_workers, pin_memory
        self.seed, self.uneven, self.events_per_epoch = seed, uneven, events_per_epoch
        self.canonical_ranks, self.canonical_workers = canonical_ranks, canonical_workers
        self.drop_last, self.predict_split = drop_last, predict_split
        self._made: dict[SplitName | None, tuple[Settings, RootIterableDataset]] = {}
        self._replaced = Ledger()  # of datasets made with settings that have changed
        self._training: RootLoader | None = None
        self._resumed: dict[str, Any] | None = None
        for split in SPLITS:
            self.dataset(split)  # refuses what makes no sense, at once

    @property
    def num_features(self) -> int:
        """d, the number of columns of ``x``."""
        return self.prepared.transform.num_features

    @property
    def feature_names(self) -> list[str]:
        return self.prepared.transform.feature_names

    @property
    def ledger(self) -> Ledger:
        """What happened to the events of all splits so far."""
        total = self.prepared.notes()
        total.merge(self._replaced)
        for _, dataset in self._made.values():
            total.merge(dataset.delivery)
        return total

    def dataset(self, split: SplitName | None) -> RootIterableDataset:
        """The dataset of a split, or of all events; made anew when the settings have changed."""
        training = split == "train"
        settings: Settings = {
            "samples": self.prepared,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "canonical_ranks": self.canonical_ranks,
            "canonical_workers": self.canonical_workers,
            "events_per_epoch": self.events_per_epoch if training else None,
            # to drop or repeat events would change what the metrics say
            "uneven": self.uneven if training else "pad",
            "drop_last": self.drop_last and training,
        }
        if split not in self._made or self._made[split][0] != settings:
            made = RootIterableDataset(split=split, shuffle=training, progress=False, **settings)
            if split in self._made:
                self._replaced.merge(self._made[split][1].delivery)
            self._made[split] = settings, made
        return self._made[split][1]

    def train_dataloader(self) -> RootLoader:
        dataset, trainer = self.dataset("train"), self.trainer
        loader = self._training = self._loader("train", self._position)
        state, self._resumed = self._resumed, None
        if trainer is None or not fitting(trainer):
            if state is not None:
                loader.load_state_dict(state)
            return loader
        goes_on = trainer.fit_loop.restarting
        if goes_on:
            mend_counters(trainer, len(dataset))
        if state is not None:  # the counters say where to go on; the state, in what order
            fresh = not (goes_on and batches_done(trainer))
            dataset.set_next_epoch(dataset.resumed_epoch(state, fresh=fresh))
        return loader

    def val_dataloader(self) -> RootLoader:
        return self._loader("validation")

    def test_dataloader(self) -> RootLoader:
        return self._loader("test")

    def predict_dataloader(self) -> RootLoader:
        return self._loader(self.predict_split)

    def state_dict(self) -> dict[str, Any]:
        """The position in the training events, for Lightning's checkpoints."""
        # Lightning saves this for the loader too, but restores it in the middle of an epoch only
        loader = self._in_use
        return {} if loader is None else {"train": loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training go on there; `train_dataloader` refuses what does not fit."""
        self._resumed = state_dict.get("train")

    @property
    def seconds_waited(self) -> float:
        """How long the present training has waited for its batches: `RootLoader.seconds_waited`."""
        loader = self._in_use
        return 0.0 if loader is None else loader.seconds_waited

    @property
    def _in_use(self) -> RootLoader | None:
        """The loader of the training events, which Lightning may have made anew."""
        trainer = self.trainer
        if trainer is not None and fitting(trainer):
            in_use = trainer.train_dataloader
            if isinstance(in_use, RootLoader):
                return in_use
        return self._training

    def _position(self) -> tuple[int, int] | None:
        """The epoch that Lightning trains next, and the batches of it that are done."""
        trainer = self.trainer
        if trainer is None or not fitting(trainer):
            return None
        done = batches_done(trainer) if trainer.fit_loop.restarting else 0
        overfits: float = vars(trainer)["overfit_batches"]  # not among its declared attributes
        # to overfit is to see the same batches again
        return 0 if overfits else trainer.current_epoch, done

    def _loader(self, split: SplitName | None, position: Position | None = None) -> RootLoader:
        return self.dataset(split).loader(
            num_workers=self.num_workers, pin_memory=self.pin_memory, position=position
        )


def _with_keys_of_a_config(function: Callable[..., None]) -> inspect.Signature:
    """The signature of a function with the keys of `DatasetConfig` in the place of its options.

    LightningCLI takes arguments that a signature names, and no others.
    """
    signature = inspect.signature(function)
    *named, _ = signature.parameters.values()
    names = ["split_by" if name == "split" else name for name in DatasetConfig.model_fields]
    keys = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Any)
        for name in names
        if name not in signature.parameters
    ]
    return signature.replace(parameters=[*named, *keys])


RootDataModule.__init__.__signature__ = _with_keys_of_a_config(RootDataModule.__init__)  # type: ignore[attr-defined]
