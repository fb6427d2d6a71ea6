"""Train, validation and test loaders of one dataset, for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
from torch.utils.data import DataLoader

from hepdata_adapters.common.ledger import Ledger
from hepdata_adapters.common.samples import Samples, prepare
from hepdata_adapters.common.split import SplitName
from hepdata_adapters.common.stream import Dataset
from hepdata_adapters.torch.convert import TensorBatch
from hepdata_adapters.torch.dataset import RootIterableDataset


class RootDataModule(lightning.LightningDataModule):
    """ROOT files for ``Trainer.fit``: 64 % training, 16 % validation, 20 % test by default.

    Takes what `RootIterableDataset` takes. Training events are reshuffled each epoch (restarts
    included), validation and test events come in file order. batch_size is per rank.

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
        progress: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.prepared = prepare(samples, options, progress=progress)
        self.batch_size, self.num_workers = batch_size, num_workers
        self._datasets: dict[SplitName, RootIterableDataset] = {}

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
            )
        return self._datasets[split]

    def train_dataloader(self) -> DataLoader[TensorBatch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[TensorBatch]:
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[TensorBatch]:
        return self._loader("test")

    def _loader(self, split: SplitName) -> DataLoader[TensorBatch]:
        workers = self.num_workers
        return EpochLoader(
            self.dataset(split),
            lambda: self.trainer.current_epoch if self.trainer else 0,
            batch_size=None,
            num_workers=workers,
            # a fork copies the state of running threads (torch, XRootD) at an arbitrary moment
            multiprocessing_context="forkserver" if workers else None,
            persistent_workers=workers > 0,
        )


class EpochLoader(DataLoader[TensorBatch]):
    """A DataLoader that tells its dataset the epoch of the trainer before each pass.

    Lightning does this for samplers, which iterable datasets do not have.
    """

    def __init__(
        self, dataset: RootIterableDataset, epoch: Callable[[], int], **options: Any
    ) -> None:
        super().__init__(dataset, **options)
        self._events, self._current_epoch = dataset, epoch

    def __iter__(self) -> Any:
        self._events.set_epoch(self._current_epoch())
        return super().__iter__()
