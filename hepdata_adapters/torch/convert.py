"""Batches of numpy arrays to tensors, without a copy where the memory allows it."""

from __future__ import annotations

import numpy as np
import torch

from hepdata_adapters.common.dataset import Batch
from hepdata_adapters.common.transform.pipeline import ModelInput

TensorBatch = dict[str, torch.Tensor]
Tensors = torch.Tensor | TensorBatch


def to_tensors(batch: Batch) -> TensorBatch:
    """Each array as a tensor of the same dtype that shares its memory.

    >>> to_tensors({"x": np.ones((2, 3), np.float32)})["x"].dtype
    torch.float32
    """
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in batch.items()}


def as_tensors(inputs: ModelInput) -> Tensors:
    """What a model takes: one tensor, or tensors by name."""
    if isinstance(inputs, dict):
        return to_tensors(inputs)
    return torch.from_numpy(np.ascontiguousarray(inputs))
