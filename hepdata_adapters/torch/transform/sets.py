"""Padded sets of objects as an ``nn.Module``, for exported graphs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hepdata_adapters.common.transform.graph.sets import fills, padded_set
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.objects import TorchTensors, check_float64
from hepdata_adapters.torch.transform.scaling import Encoding


class SetModule(nn.Module):
    """Prepared columns to the set that the `SetTransform` gives.

    >>> from hepdata_adapters.common.transform.scaling import ValueScaling
    >>> module = SetModule(SetTransform(length=2, features=(ValueScaling(
    ...     branch="pt", dtype="float32", factor=0.5),)))
    >>> pt = Padded(torch.tensor([[8.0, 6.0, 4.0], [30.0, 0.0, 0.0]]), torch.tensor([3, 1]))
    >>> arrays, valid = module({"pt": pt})
    >>> arrays[""].tolist(), arrays["_mask"].tolist()
    ([[[4.0], [3.0]], [[15.0], [0.0]]], [[True, True], [True, False]])
    """

    fill: Tensor
    pad: Tensor

    def __init__(self, transform: SetTransform) -> None:
        super().__init__()
        self.transform = transform
        scaled = transform.dtype == "float32"
        self.encoding = Encoding(transform.features) if scaled else nn.Identity()
        for name, numbers in (("fill", fills(transform)), ("pad", transform.pad)):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64))

    def forward(self, columns: Mapping[str, Tensor | Padded]) -> tuple[dict[str, Tensor], Tensor]:
        """The set and its mask, ``{"": (n, k, f), "_mask": (n, k)}``; and which events are valid.

        valid: ``(n,)`` bool, false where numpy's raises; the set of such an event means nothing.
        Raises BranchError for a branch that is not padded, ConfigError if the module was cast to
        another dtype than float64.
        """
        if self.transform.dtype != "float32":
            check_float64(self.pad, "the transform fills")
        backend = TorchTensors()
        made = padded_set(backend, columns, self.transform, self.encoding, self.fill, self.pad)
        return made, backend.valid
