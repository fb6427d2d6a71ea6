"""The hand-over of a batch from a worker process: one block of shared memory for all its arrays.

A DataLoader sends each tensor by itself, which costs a connection between the processes for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hepdata_adapters.common.core.reused_memory import ALIGNMENT
from hepdata_adapters.common.stream.dataset import Batch
from hepdata_adapters.torch.data.convert import TensorBatch, WholeBatch

Place = tuple[str, int, str, tuple[int, ...]]
"""An array in the block: its name, first byte, dtype and shape."""


class SharedBatch(WholeBatch):
    """A batch in one block of shared memory, which is all that is sent of it.

    >>> import pickle
    >>> batch = SharedBatch.of({"x": np.ones((2, 3), np.float32), "label": np.zeros(2)})
    >>> batch["x"].shape, len(batch.__reduce__()[1][1])
    (torch.Size([2, 3]), 2)
    """

    block: torch.Tensor
    places: list[Place]

    @classmethod
    def of(cls, batch: Batch) -> SharedBatch:
        """A copy of the arrays."""
        places: list[Place] = []
        size = 0
        for name, values in batch.items():
            places.append((name, size, str(values.dtype), values.shape))
            size += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
        storage = torch.UntypedStorage._new_shared(max(size, 1))  # type: ignore[no-untyped-call]
        block = torch.empty(0, dtype=torch.uint8).set_(storage)
        made = cls(_views(block, places))
        made.block, made.places = block, places
        for name, values in batch.items():
            np.copyto(made[name].numpy(), values, casting="no")
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.block, self.places)


def _opened(block: torch.Tensor, places: list[Place]) -> WholeBatch:
    return WholeBatch(_views(block, places))


def _views(block: torch.Tensor, places: list[Place]) -> TensorBatch:
    found = {}
    memory = block.numpy()
    for name, start, dtype, shape in places:
        values = np.ndarray(shape, dtype, memory, start)
        found[name] = torch.from_numpy(values)
    return found
