"""Padded sets of objects as an ``nn.Module``, for exported graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.scaling import ValueScaling
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.objects import fitted, members, none_of
from hepdata_adapters.torch.transform.scaling import Encoding


class SetModule(nn.Module):
    """Prepared columns to the set that the `SetTransform` gives.

    >>> module = SetModule(SetTransform(length=2, features=(ValueScaling(
    ...     branch="pt", dtype="float32", factor=0.5),)))
    >>> pt = Padded(torch.tensor([[8.0, 6.0, 4.0], [30.0, 0.0, 0.0]]), torch.tensor([3, 1]))
    >>> arrays, valid = module({"pt": pt})
    >>> arrays[""].tolist(), arrays["_mask"].tolist()
    ([[[4.0], [3.0]], [[15.0], [0.0]]], [[True, True], [True, False]])
    """

    pad: Tensor

    def __init__(self, transform: SetTransform) -> None:
        super().__init__()
        self.transform = transform
        if transform.dtype == "float32":
            self.encoding: nn.Module = Encoding(transform.features)
            self.raw = torch.float64
        else:
            self.raw = torch.float64 if transform.dtype == "float64" else torch.int64
            self.encoding = _Raw(transform.features)
        self.register_buffer("pad", torch.tensor(transform.pad, dtype=torch.float64))

    def forward(self, columns: Mapping[str, Tensor | Padded]) -> tuple[dict[str, Tensor], Tensor]:
        """The set and its mask, ``{"": (n, k, f), "_mask": (n, k)}``; and which events are valid.

        valid: ``(n,)`` bool, false where numpy's raises; the set of such an event means nothing.
        Raises BranchError for a branch that is not padded, ConfigError if the module was cast to
        another dtype than float64.
        """
        transform = self.transform
        objects = members(columns, transform.branches)
        features = [objects.values[branch].to(self.raw) for branch in transform.branches]
        values, _, refused = self.encoding(torch.stack(features, 2))
        valid = objects.valid & none_of(refused & objects.present.unsqueeze(2))
        if transform.overflow == "error":
            valid = valid & (objects.lengths <= transform.length)
        places = torch.arange(transform.length, device=values.device)
        mask = places < objects.lengths.unsqueeze(1)
        kept = fitted(values, transform.length)
        return {
            "": torch.where(mask.unsqueeze(2), kept, self.pad.to(kept.dtype)),
            "_mask": mask,
        }, valid


class _Raw(nn.Module):
    """Values as they are, float64 or int64, in the form of `Encoding`."""

    fill: Tensor

    def __init__(self, features: Sequence[ValueScaling]) -> None:
        super().__init__()
        # NaN stays where nothing may replace it
        fill = [torch.nan if f.missing is None else f.missing for f in features]
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.float64))

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.fill.dtype != torch.float64:
            raise ConfigError(
                f"the transform fills in float64 and was cast to {self.fill.dtype}: "
                "cast the model behind it, not both"
            )
        if not raw.is_floating_point():
            real = torch.ones_like(raw, dtype=torch.bool)
            return raw, real, ~real
        real = torch.isfinite(raw)
        values = torch.where(real, raw, self.fill)
        return values, real, torch.isnan(values)
