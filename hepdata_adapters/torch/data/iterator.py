"""One pass of one process, as an iterator that can say and resume where it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch.utils.data import get_worker_info

from hepdata_adapters.common.core.errors import StateError
from hepdata_adapters.common.stream.epoch import Pass
from hepdata_adapters.torch.data.convert import TensorBatch, WholeBatch, to_tensors

if TYPE_CHECKING:
    from hepdata_adapters.torch.data.dataset import RootIterableDataset


class BatchIterator(Iterator[TensorBatch]):
    """One pass in one process: the batches, or the events, of one worker.

    It has the methods with which torchdata's ``StatefulDataLoader`` saves and restores each
    worker. That loader wants the same number of workers again, and leaves the epoch of the
    passes after a restored one to `RootIterableDataset.set_epoch`.
    """

    def __init__(self, dataset: RootIterableDataset) -> None:
        info = get_worker_info()
        self._worker, self._workers = (info.id, info.num_workers) if info else (0, 1)
        self._dataset = dataset
        self._begin(dataset.present_pass(), delivered=0)

    def __next__(self) -> TensorBatch:
        tensors = to_tensors(next(self._batches))
        self._delivered += 1
        if self._dataset.batch_size is None:
            return {name: values[0] for name, values in tensors.items()}
        return WholeBatch(tensors)

    def state_dict(self) -> dict[str, Any]:
        """Where the pass began, and what this worker delivered of it since."""
        dataset = self._dataset
        cursor = self._wanted.cursor(dataset.prepared, dataset.split)
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
        wanted = self._dataset.resumed_pass(state["pass"])
        # later passes keep to the canonical counts of this one
        self._dataset.follow(
            replace(
                self._dataset.present_pass(),
                canonical_ranks=wanted.canonical_ranks,
                canonical_workers=wanted.canonical_workers,
            )
        )
        self._begin(wanted, state["delivered"])

    def _begin(self, wanted: Pass, delivered: int) -> None:
        self._wanted, self._delivered = wanted, delivered
        left = replace(wanted, start=wanted.start + delivered * self._workers)
        self._batches = self._dataset.read(left, self._worker, self._workers)
