"""Batches of numpy arrays to tensors, without a copy where the memory allows it."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data._utils.collate import default_collate_fn_map

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.stream.dataset import Batch
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


class WholeBatch(dict[str, torch.Tensor]):
    """A batch that a DataLoader with a ``batch_size`` refuses to put into another batch."""


def _refuse(batches: list[WholeBatch], **_: Any) -> NoReturn:
    size = max(len(batch["event"]) for batch in batches)
    raise ConfigError(
        f"the dataset makes whole batches, which this DataLoader would put together once more: "
        f"write DataLoader(dataset, batch_size=None) or dataset.loader(), or make the dataset with "
        f"batch_size=None and DataLoader(dataset, batch_size={size})"
    )


def _items(batch: WholeBatch) -> tuple[list[torch.Tensor], list[str]]:
    return list(batch.values()), list(batch)


def _of_items(values: Any, names: Any) -> WholeBatch:
    return WholeBatch(zip(names, values, strict=True))


default_collate_fn_map[WholeBatch] = _refuse
# for torch.compile and the like, which know no kind of dict but those they are told of
pytree.register_pytree_node(
    WholeBatch, _items, _of_items,
    serialized_type_name="hepdata_adapters.torch.data.convert.WholeBatch",
)  # fmt: skip
