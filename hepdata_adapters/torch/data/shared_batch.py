"""The hand-over of a batch from a worker process: one block of shared memory for all its arrays.

A DataLoader sends each tensor by itself, in memory that is new each time, which costs more than to
make the batch. Here a block goes back to its worker when no tensor refers to it any more: a byte
in the block itself says so. A block that the receiver has opened before is sent as its name only.
"""

from __future__ import annotations

import itertools
import os
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hepdata_adapters.common.core.reused_memory import ALIGNMENT, Loan
from hepdata_adapters.common.stream.dataset import Batch
from hepdata_adapters.torch.data.convert import TensorBatch, WholeBatch

MOST_FREE = 16  # blocks that a worker keeps
IN_USE, OPEN = 0, 1  # bytes at the start of a block
Name = tuple[int, int]
"""Of a block: the process that made it, and its number there."""
Place = tuple[str, int, str, tuple[int, ...]]
"""An array in the block: its name, first byte, dtype and shape."""


class SharedBlock:
    """Shared memory with two marks in front.

    IN_USE: set by the worker, taken back by the receiver. OPEN: whether the receiver has it.
    """

    def __init__(self, name: Name, tensor: torch.Tensor) -> None:
        self.name, self.tensor = name, tensor
        self.memory: NDArray[np.uint8] = tensor.numpy()

    @classmethod
    def new(cls, size: int) -> SharedBlock:
        """A block that is nobody's yet."""
        storage = torch.UntypedStorage._new_shared(size)  # type: ignore[no-untyped-call]
        block = cls((os.getpid(), next(_NUMBERS)), torch.empty(0, dtype=torch.uint8).set_(storage))
        block.memory[:ALIGNMENT] = 0
        return block


class SharedBlocks:
    """The blocks of a worker."""

    def __init__(self) -> None:
        self._blocks: list[SharedBlock] = []

    def take(self, size: int) -> SharedBlock:
        """A block of at least so many bytes, in use from now on."""
        for block in self._blocks:
            if not block.memory[IN_USE] and len(block.memory) >= size:
                break
        else:
            block = SharedBlock.new(size)
            self._blocks.append(block)
            del self._blocks[:-MOST_FREE]
        block.memory[IN_USE] = 1
        return block


class SharedBatch(WholeBatch):
    """A batch in one block of shared memory, which is all that is sent of it, or its name.

    >>> import pickle
    >>> batch = SharedBatch.of({"x": np.ones((2, 3), np.float32), "label": np.zeros(2)})
    >>> batch["x"].shape, len(batch.__reduce__()[1][-1])
    (torch.Size([2, 3]), 2)
    """

    block: SharedBlock
    places: list[Place]

    @classmethod
    def of(cls, batch: Batch, blocks: SharedBlocks | None = None) -> SharedBatch:
        """A copy of the arrays, in one of the blocks."""
        places: list[Place] = []
        size = ALIGNMENT
        for name, values in batch.items():
            places.append((name, size, str(values.dtype), values.shape))
            size += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
        block = (blocks or SharedBlocks()).take(size)
        made = cls(_views(block.memory, places))
        made.block, made.places = block, places
        for name, values in batch.items():
            np.copyto(made[name].numpy(), values, casting="no")
        return made

    def __copy__(self) -> SharedBatch:
        # a DataLoader copies each batch in the worker before it is sent
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        tensor = None if self.block.memory[OPEN] else self.block.tensor
        return _opened, (self.block.name, tensor, self.places)


def _opened(name: Name, tensor: torch.Tensor | None, places: list[Place]) -> WholeBatch:
    if tensor is not None:
        if all(other[0] != name[0] for other in _open):
            _close_those_of_the_dead()
        _open[name] = SharedBlock(name, tensor)
    block = _open[name]
    block.memory[OPEN] = 1
    loan = Loan(block.memory)
    weakref.finalize(loan, _give_back, block, os.getpid()).atexit = False
    return WholeBatch(_views(np.asarray(loan), places))


def _give_back(block: SharedBlock, pid: int) -> None:
    if os.getpid() == pid:  # a forked child that lets go of its copy says nothing of the parent's
        block.memory[IN_USE] = 0


def _close_those_of_the_dead() -> None:
    for name in list(_open):
        try:
            os.kill(name[0], 0)
        except OSError:
            del _open[name]  # tensors that refer to it keep it


def _views(memory: NDArray[np.uint8], places: list[Place]) -> TensorBatch:
    found = {}
    for name, start, dtype, shape in places:
        values = np.ndarray(shape, dtype, memory, start)
        found[name] = torch.from_numpy(values)
    return found


_NUMBERS = itertools.count()
_open: dict[Name, SharedBlock] = {}  # of all workers of this process: the receiver is pickle
