"""A binary search in steps of indexing: ONNX has none, and to compare with all takes memory."""

from __future__ import annotations

import torch
from torch import Tensor


def last_not_above(values: Tensor, table: Tensor, first: Tensor | int, size: int) -> Tensor:
    """The place in ``table`` of the last number that is not above each value, int64.

    table: ``(t,)``, growing from place ``first`` to ``first + size - 1``; these are the lowest and
    the highest place. first may be a tensor that broadcasts with the values.

    >>> table = torch.tensor([0.0, 10.0, 30.0])
    >>> last_not_above(torch.tensor([-1.0, 10.0, 99.0]), table, 0, 3).tolist()
    [0, 1, 2]
    """
    place = torch.zeros_like(values, dtype=torch.int64) + first
    last = first + size - 1
    for bit in reversed(range((size - 1).bit_length())):
        ahead = place + (1 << bit)
        ahead = ahead.minimum(last) if isinstance(last, Tensor) else ahead.clamp(max=last)
        place = torch.where(values >= table[ahead], ahead, place)
    return place
