"""One epoch of one process, as an iterator that can say and resume where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import get_worker_info

from hepdata_adapters.common.core.errors import StateError
from hepdata_adapters.common.stream.epoch import Epoch
from hepdata_adapters.torch.data.convert import TensorBatch, WholeBatch, to_tensors
from hepdata_adapters.torch.data.epoch_source import EpochSource
from hepdata_adapters.torch.data.shared_batch import SharedBatch, SharedBlocks


class BatchIterator(Iterator[TensorBatch]):
    """One epoch in one process: the batches, or the events, of one worker.

    It has the methods with which torchdata's ``StatefulDataLoader`` saves and restores each
    worker. That loader wants the same number of workers again, and leaves the number of the
    epochs after a restored one to `RootIterableDataset.set_epoch`.
    """

    def __init__(self, dataset: EpochSource) -> None:
        info = get_worker_info()
        self._worker, self._workers = (info.id, info.num_workers) if info else (0, 1)
        self._in_worker, self._dataset = info is not None, dataset
        self._begin(dataset.next_epoch(), delivered=0)

    def __next__(self) -> TensorBatch:
        batch = next(self._batches)
        self._delivered += 1
        if self._dataset.batch_size is None:
            return {name: values[0] for name, values in to_tensors(batch).items()}
        if self._in_worker:
            return SharedBatch.of(batch, _blocks)
        return WholeBatch(to_tensors(batch))

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch began, and what this worker delivered of it since."""
        dataset = self._dataset
        cursor = self._epoch.cursor(dataset.prepared, dataset.split)
        return {
            "pass": cursor.state(),
            "workers": self._workers,
            "delivered": self._delivered,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken. Raises StateError if it does not fit."""
        if state.get("workers") != self._workers:
            raise StateError(
                f"the state is of {state.get('workers')} DataLoader workers, here are "
                f"{self._workers}: use as many, or RootIterableDataset.loader"
            )
        epoch = self._dataset.resumed_epoch(state["pass"])
        # later epochs keep to the canonical counts of this one
        later = self._dataset.next_epoch()
        counts = epoch.options.canonical_ranks, epoch.options.canonical_workers
        self._dataset.set_next_epoch(replace(later, options=later.options.canonical(*counts)))
        self._begin(epoch, state["delivered"])

    def _begin(self, epoch: Epoch, delivered: int) -> None:
        self._epoch, self._delivered = epoch, delivered
        left = replace(epoch, start=epoch.start + delivered * self._workers)
        self._batches = self._dataset.read(left, self._worker, self._workers)


_blocks = SharedBlocks()  # of this worker process, for all its passes
