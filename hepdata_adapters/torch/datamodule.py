"""Train, validation and test loaders of one dataset, for Lightning."""

from __future__ import annotations

from typing import Any

import lightning

from hepdata_adapters.common.dataset import Dataset
from hepdata_adapters.common.ledger import Ledger
from hepdata_adapters.common.samples import Samples, prepare
from hepdata_adapters.common.shard import Uneven
from hepdata_adapters.common.split import SplitName
from hepdata_adapters.torch.dataset import RootIterableDataset
from hepdata_adapters.torch.loader import RootLoader


class RootDataModule(lightning.LightningDataModule):
    """ROOT files for ``Trainer.fit``: 64 % training, 16 % validation, 20 % test by default.

    Takes what `RootIterableDataset` takes. Training events are reshuffled each epoch (restarts
    included), validation and test events come in file order. batch_size is per rank.
    events_per_epoch and uneven are of training (the others pad). num_workers: processes per split.

    Checkpoints hold the position in the training events, mid-epoch too: ``fit(...,
    ckpt_path=...)`` goes on with the exact next event, with any number of workers, and of ranks
    with the same global batch size. Raises StateError for a checkpoint of other data.

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
        progress: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.prepared = prepare(samples, options, progress=progress)
        self.batch_size, self.num_workers, self.pin_memory = batch_size, num_workers, pin_memory
        self._events_per_epoch = events_per_epoch
        self._order: dict[str, Any] = {
            "seed": seed,
            "uneven": uneven,
            "canonical_ranks": canonical_ranks,
            "canonical_workers": canonical_workers,
        }
        self._datasets: dict[SplitName, RootIterableDataset] = {}
        self._training: RootLoader | None = None
        self._resumed: dict[str, Any] | None = None

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
        for dataset in self._datasets.values():
            total.merge(dataset.delivery)
        return total

    def dataset(self, split: SplitName) -> RootIterableDataset:
        """The dataset of a split; made once, when the ranks are known."""
        if split not in self._datasets:
            self._datasets[split] = RootIterableDataset(
                self.prepared,
                batch_size=self.batch_size,
                split=split,
                shuffle=split == "train",
                events_per_epoch=self._events_per_epoch if split == "train" else None,
                # to drop or repeat events would change what the metrics say
                **(self._order | ({} if split == "train" else {"uneven": "pad"})),
            )
        return self._datasets[split]

    def train_dataloader(self) -> RootLoader:
        self._training = self._loader("train")
        if self._resumed is not None:
            self._training.load_state_dict(self._resumed)
            self._resumed = None
        return self._training

    def val_dataloader(self) -> RootLoader:
        return self._loader("validation")

    def test_dataloader(self) -> RootLoader:
        return self._loader("test")

    def state_dict(self) -> dict[str, Any]:
        """The position in the training events, for Lightning's checkpoints."""
        # Lightning saves this for the loader too, but restores it in the middle of an epoch only
        return {} if self._training is None else {"train": self._training.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training go on there; `train_dataloader` refuses what does not fit."""
        self._resumed = state_dict.get("train")

    def _loader(self, split: SplitName) -> RootLoader:
        return self.dataset(split).loader(
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            epoch=lambda: self.trainer.current_epoch if self.trainer else 0,
        )
