"""Ragged values in the layouts that torch takes: nested tensors, and packed with cu_seqlens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hepdata_adapters.common.core.errors import ConfigError


class Packing(NamedTuple):
    """What attention kernels for packed sequences take beside the values.

    cu_seqlens: ``(n + 1,)`` int32, where the events begin and end. max_seqlen: objects of the
    longest event.
    """

    cu_seqlens: Tensor
    max_seqlen: int


def to_nested(values: Tensor, offsets: Tensor) -> Tensor:
    """Values ``(m, f)`` and offsets ``(n + 1,)`` int64 as ``(n, *, f)`` of the jagged layout.

    The values are shared, not copied.

    >>> found = to_nested(torch.ones(3, 2), torch.tensor([0, 1, 1, 3]))
    >>> [event.shape[0] for event in found.unbind()]
    [1, 0, 2]
    """
    nested: Tensor = torch.nested.nested_tensor_from_jagged(values, offsets)
    return nested


def cu_seqlens(offsets: Tensor) -> Packing:
    """Offsets ``(n + 1,)`` int64 for kernels such as ``flash_attn_varlen_func``.

    Raises ConfigError for more than 2^31 - 1 objects.

    >>> cu_seqlens(torch.tensor([0, 1, 1, 3]))
    Packing(cu_seqlens=tensor([0, 1, 1, 3], dtype=torch.int32), max_seqlen=2)
    """
    if int(offsets[-1]) > torch.iinfo(torch.int32).max:
        raise ConfigError(
            f"{int(offsets[-1])} objects in a batch have no int32 offsets: take a smaller batch"
        )
    lengths = offsets.diff()
    longest = int(lengths.max()) if len(lengths) else 0
    return Packing(offsets.to(torch.int32), longest)
