"""What iterators and loaders ask of the dataset that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.stream.dataset import Batch, Dataset
from hepdata_adapters.common.stream.epoch import Epoch


class EpochSource(Protocol):
    """A dataset that knows its next epoch and reads it; `RootIterableDataset` is one."""

    prepared: Dataset
    split: SplitName | None
    batch_size: int | None

    def next_epoch(self) -> Epoch:
        """The next epoch of this rank."""

    def resumed_epoch(self, state: Mapping[str, Any], *, fresh: bool = False) -> Epoch:
        """The epoch that goes on where a state was taken."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch by its number."""

    def set_next_epoch(self, epoch: Epoch) -> None:
        """Choose the next epoch and where in it to begin."""

    def read(self, epoch: Epoch, worker: int, workers: int) -> Iterator[Batch]:
        """The batches of one worker."""

    def last_read(self, pid: int) -> str:
        """What a worker process read last, in words."""
