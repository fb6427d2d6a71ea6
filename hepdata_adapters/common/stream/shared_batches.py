"""Batches in memory that two processes share: which arrays a batch has and where they lie.

The memory has no name, in /dev/shm or elsewhere: it goes with the last process that maps it,
however that one ends, so there is nothing to clean up.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import OFFSETS, Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.reused_memory import ALIGNMENT, ReusedMemory
from hepdata_adapters.common.stream.dataset import Batch, Dataset, label_dtype

Memory = bytearray | mmap.mmap | NDArray[np.uint8]
MOST_FREE = 8  # blocks that `Copies` keeps


@dataclass(frozen=True)
class Field:
    """One array of a batch of n rows: ``(n, *shape)`` of ``dtype``.

    ragged: ``(m, *shape)`` for any m.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    ragged: bool = False

    def nbytes(self, rows: int) -> int:
        """Bytes of this many rows."""
        return rows * prod(self.shape) * self.dtype.itemsize


def batch_fields(dataset: Dataset) -> tuple[Field, ...]:
    """The arrays of each batch that `EventStream` makes of a dataset."""
    fields: list[Field] = []
    for name, values in dataset.transform.empty.items():
        if isinstance(values, Jagged):
            fields.append(Field(name, values.dtype, values.content.shape[1:], ragged=True))
            fields.append(Field(name + OFFSETS, np.dtype(np.int64), ragged=True))
        else:
            fields.append(Field(name, values.dtype, values.shape[1:]))
    if dataset.layout.task:
        fields.append(Field("label", label_dtype(dataset)))
    fields += [Field("weight", np.dtype(np.float64)), Field("event", np.dtype(np.int64), (2,))]
    return tuple(fields)


def fixed_fields(dataset: Dataset) -> tuple[Field, ...]:
    """`batch_fields`, of which the size is known before.

    Raises ConfigError for a ragged one.
    """
    fields = batch_fields(dataset)
    ragged = [field.name for field in fields if field.ragged]
    if ragged:
        raise ConfigError(
            f"{ragged[0]} is ragged, and worker processes share batches of fixed size only: "
            f"read it with num_workers=0"
        )
    return fields


@dataclass(frozen=True)
class Slots:
    """A memory of ``count`` slots, each with room for a batch of up to ``rows`` rows.

    >>> slots = Slots((Field("x", np.dtype(np.float32), (2,)),), rows=10, count=2)
    >>> memory = bytearray(slots.nbytes)
    >>> slots.write(memory, 1, {"x": np.array([[1, 2], [3, 4]], np.float32)})
    2
    >>> slots.views(memory, 1, 2)["x"].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """

    fields: tuple[Field, ...]
    rows: int
    count: int

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        """Where each array starts in its slot, and the size of a slot."""
        offsets = [0]
        for field in self.fields:
            offsets.append(_aligned(offsets[-1] + field.nbytes(self.rows)))
        return tuple(offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of all slots."""
        return self.count * self._offsets[-1]

    def views(self, memory: Memory, slot: int, rows: int) -> Batch:
        """The arrays of a slot, in place: they change when the slot is written again."""
        start = slot * self._offsets[-1]
        return {
            field.name: np.ndarray((rows, *field.shape), field.dtype, memory, start + offset)
            for field, offset in zip(self.fields, self._offsets[:-1], strict=True)
        }

    def write(self, memory: Memory, slot: int, batch: Batch) -> int:
        """Copy a batch into a slot; the number of its rows.

        Raises ValueError where the batch has other arrays than the slot, TypeError for another
        dtype.
        """
        rows = len(batch[self.fields[0].name])
        views = self.views(memory, slot, rows)
        if batch.keys() != views.keys():
            raise ValueError(f"the batch holds {sorted(batch)}, the slot {sorted(views)}")
        for name, view in views.items():
            if batch[name].shape != view.shape:
                raise ValueError(f"{name} is {batch[name].shape}, the slot {view.shape}")
            np.copyto(view, batch[name], casting="no")
        return rows


def anonymous_memory(size: int) -> int:
    """A file descriptor of ``size`` bytes of memory without a name; map it, then close it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("hepdata-batches")
    else:  # macOS: a file that is unlinked while it is open
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


class Copies:
    """Copies of batches, in memory that is used again as soon as nobody refers to a copy."""

    def __init__(self, fields: tuple[Field, ...], rows: int) -> None:
        self._slot = Slots(fields, rows, count=1)
        self._memory = ReusedMemory(MOST_FREE)

    def __call__(self, batch: Batch) -> Batch:
        """The same arrays, each starting at a multiple of `ALIGNMENT`."""
        memory = self._memory.empty(self._slot.nbytes, np.uint8)
        rows = self._slot.write(memory, 0, batch)
        return self._slot.views(memory, 0, rows)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
