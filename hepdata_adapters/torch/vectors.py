"""The vector as an ``nn.Module``: prepared columns as tensors to the row that a model sees.

It does what `hepdata_adapters.common.transform.vector` does, in operations that torch.export
takes, so that it can travel inside an exported graph. A graph cannot raise for a value, so the
events whose values a policy forbids are marked instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hepdata_adapters.common.transform.feature import FeatureTransform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.torch.expressions import Padded
from hepdata_adapters.torch.members import none_of
from hepdata_adapters.torch.scaling import Encoding


class VectorTensors(NamedTuple):
    """The output for n events, d columns and j jagged branches.

    x, mask, lengths: as in `hepdata_adapters.common.transform.vector.Vectors`; float32, bool
    and int32.
    valid: ``(n,)`` bool, false where the reference transform raises: NaN, infinity or a value
    outside of the function's domain without a fill value, a number too large for float32, an
    overlong list that must not be cut, and a length that its padded row cannot have. ``x`` of
    such an event means nothing.
    """

    x: Tensor
    mask: Tensor
    lengths: Tensor
    valid: Tensor


class EventVectors(nn.Module):
    """Prepared columns by branch to `VectorTensors`; jagged ones are `Padded`.

    >>> vectors = EventVectors(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2))))
    >>> out = vectors({"MET": torch.tensor([10.0, torch.nan]),
    ...                "pt": Padded(torch.tensor([[3.0], [0.0]]), torch.tensor([1, 0]))})
    >>> out.x[0].tolist(), out.mask[0].tolist(), out.valid.tolist()
    ([5.0, 3.0, 0.0], [True, True, False], [True, False])
    """

    owner: Tensor
    place: Tensor
    width: Tensor
    pad: Tensor
    marked: Tensor
    order: Tensor

    def __init__(self, transform: VectorTransform) -> None:
        super().__init__()
        self.features = transform.features
        self.jagged = transform.jagged
        self.encoding = Encoding([f for f in self.features for _ in range(f.width)])
        self.lists = nn.ModuleList(map(_ListCheck, transform.jagged))
        # of each column of values: the number of its list and its place there; list 0 has
        # length 1 in every event and owns the columns that are always there
        jagged = {feature.branch: number for number, feature in enumerate(transform.jagged, 1)}
        owners = [jagged.get(f.branch, 0) for f in self.features for _ in range(f.width)]
        places = [i if f.branch in jagged else 0 for f in self.features for i in range(f.width)]
        widths = [feature.width for feature in transform.jagged]
        self.indicators = any(feature.indicator for feature in self.features)
        buffers = {"owner": owners, "place": places, "width": widths, **_indicators(self.features)}
        for name, numbers in buffers.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.int64))
        pads = [feature.pad for feature in self.features for _ in range(feature.width)]
        self.register_buffer("pad", torch.tensor(pads, dtype=torch.float32))

    def forward(self, columns: Mapping[str, Tensor | Padded]) -> VectorTensors:
        """``columns`` by branch, all of n events, in the dtype of the branch or float64.

        Raises ConfigError if the module was cast to another dtype than float64.
        """
        parts: list[Tensor] = []
        lists: list[Padded] = []
        for feature in self.features:
            column = columns[feature.branch]
            if isinstance(column, Padded):
                lists.append(column)
            values = column.values if isinstance(column, Padded) else column
            # scaled in float64, so that large values lose digits only in the result
            values = values.to(torch.float64)
            if feature.kind == "jagged":
                values = nn.functional.pad(values, (0, feature.width))[:, : feature.width]
            parts.append(values.reshape(-1, feature.width))
        raw = torch.cat(parts, 1)
        always = torch.ones_like(raw[:, 0], dtype=torch.int64)
        counts = torch.stack([always, *(column.lengths for column in lists)], 1)
        present = self.place < counts[:, self.owner]
        scaled, real, refused = self.encoding(raw)
        valid = none_of(refused & present)
        for check, column in zip(self.lists, lists, strict=True):
            valid = valid & check(column.values, column.lengths)
        x = torch.where(present, scaled, self.pad.to(scaled.dtype))
        mask = present & real
        if self.indicators:
            flags = (present & ~real).index_select(1, self.marked).to(x.dtype)
            known = present.index_select(1, self.marked)
            x = torch.cat([x, flags], 1).index_select(1, self.order)
            mask = torch.cat([mask, known], 1).index_select(1, self.order)
        return VectorTensors(
            x=x,
            mask=mask,
            lengths=counts[:, 1:].minimum(self.width).to(torch.int32),
            valid=valid,
        )


class _ListCheck(nn.Module):
    """Which events have a list of one jagged branch that its policies allow."""

    def __init__(self, feature: FeatureTransform) -> None:
        super().__init__()
        self.width = feature.width if feature.overflow == "error" else None
        # all values count, also those behind the pad length; of most dtypes none is refused
        self.encoding = Encoding([feature]) if feature.may_refuse else None

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """``values`` ``(n, m)``, ``lengths`` ``(n,)`` int64 → ``(n,)`` bool."""
        columns = values.shape[1]
        allowed = (lengths >= 0) & (lengths <= columns)
        if self.width is not None:
            allowed = allowed & (lengths <= self.width)
        if self.encoding is not None:
            inside = torch.arange(columns, device=values.device) < lengths.unsqueeze(1)
            _, _, refused = self.encoding(values.to(torch.float64).unsqueeze(-1))
            allowed = allowed & none_of(refused.squeeze(-1) & inside)
        return allowed


def _indicators(features: Sequence[FeatureTransform]) -> dict[str, list[int]]:
    """marked: columns of values with an indicator. order: of the columns of ``x``, its place
    among those of the values and, after them, those of the indicators.
    """
    widths = [feature.width for feature in features]
    marked = np.repeat([feature.indicator for feature in features], widths)
    marks = np.concatenate([np.arange(f.columns) >= f.width for f in features])
    order = np.where(marks, len(marked) + np.cumsum(marks), np.cumsum(~marks)) - 1
    return {"marked": np.flatnonzero(marked).tolist(), "order": order.tolist()}
