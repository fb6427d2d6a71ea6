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

from hepdata_adapters.common.core.errors import BranchError
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.objects import fitted, none_of, padded, stacked
from hepdata_adapters.torch.transform.scaling import Encoding


class VectorTensors(NamedTuple):
    """The output for n events, d columns and j jagged branches.

    x, mask, lengths: as in `hepdata_adapters.common.transform.vector.Vectors`; float32, bool
    and int32.
    valid: ``(n,)`` bool, false where the reference transform raises: NaN, infinity or a value
    outside of the function's domain without a fill value, a number too large for float32, and an
    overlong list that must not be cut. ``x`` of such an event means nothing.
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
    source: Tensor
    part: Tensor
    width: Tensor
    pad: Tensor
    marked: Tensor
    order: Tensor

    def __init__(
        self, transform: VectorTransform, same_length: Sequence[Sequence[str]] = ()
    ) -> None:
        """same_length: jagged branches that agree in their lengths wherever ``valid`` of what
        came before is true (see `Preparation.same_length`); others are taken alone.
        """
        super().__init__()
        self.features = transform.features
        self.flat = [f for f in self.features if f.kind == "flat"]
        self.arrays = [f for f in self.features if f.kind == "array"]
        self.lists = nn.ModuleList(map(_Lists, _parts(transform.jagged, same_length)))
        self.encoding = Encoding([f for f in self.features for _ in range(f.width)])
        self.indicators = any(feature.indicator for feature in self.features)
        # where the values of a branch begin in the matrix of all, how far apart they are, and the
        # number of its part; part 0 has length 1 in every event and owns what is not jagged
        starts: dict[str, tuple[int, int, int]] = {}
        end = 0
        for number, part in enumerate(self._parts, 1):
            for offset, feature in enumerate(part.features):
                starts[feature.branch] = (end + offset, len(part.features), number)
            end += len(part.features) * part.width
        for feature in (*self.arrays, *self.flat):
            starts[feature.branch] = (end, 1, 0)
            end += feature.width
        columns = [(f, place) for f in self.features for place in range(f.width)]
        buffers = {
            "owner": [starts[f.branch][2] for f, _ in columns],
            "place": [place if f.kind == "jagged" else 0 for f, place in columns],
            "source": [starts[f.branch][0] + place * starts[f.branch][1] for f, place in columns],
            "part": [starts[f.branch][2] for f in transform.jagged],
            "width": [feature.width for feature in transform.jagged],
            **_indicators(self.features),
        }
        for name, numbers in buffers.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.int64))
        pads = [feature.pad for feature, _ in columns]
        self.register_buffer("pad", torch.tensor(pads, dtype=torch.float32))

    @property
    def _parts(self) -> list[_Lists]:
        return [part for part in self.lists if isinstance(part, _Lists)]

    def forward(self, columns: Mapping[str, Tensor | Padded]) -> VectorTensors:
        """``columns`` by branch, all of n events, in the dtype of the branch or float64.

        Lengths are such that their padded rows have them (see `EventPreparation`).

        Raises ConfigError if the module was cast to another dtype than float64.
        """
        # scaled in float64, so that large values lose digits only in the result
        found = [part(columns) for part in self._parts]
        matrices = [values for values, _, _ in found]
        matrices += [_flat(columns, f.branch).to(torch.float64) for f in self.arrays]
        if self.flat:
            matrices.append(stacked([_flat(columns, f.branch) for f in self.flat], 1))
        raw = torch.cat(matrices, 1).index_select(1, self.source)
        always = torch.ones_like(raw[:, 0], dtype=torch.int64)
        counts = torch.stack([always, *(lengths for _, lengths, _ in found)], 1)
        present = self.place < counts.index_select(1, self.owner)
        scaled, real, refused = self.encoding(raw)
        valid = none_of(refused & present)
        for allowed in (check for _, _, checks in found for check in checks):
            valid = valid & allowed
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
            lengths=counts.index_select(1, self.part).minimum(self.width).to(torch.int32),
            valid=valid,
        )


class _Lists(nn.Module):
    """Jagged branches of one length an event, as one matrix; where their policies allow them."""

    refusing: Tensor

    def __init__(self, features: Sequence[FeatureTransform]) -> None:
        super().__init__()
        self.features = tuple(features)
        self.width = max(feature.width for feature in features)
        self.longest = min((f.width for f in features if f.overflow == "error"), default=None)
        # all values count, also those behind the pad length; of most dtypes none is refused
        refusing = [number for number, feature in enumerate(features) if feature.may_refuse]
        self.encoding = Encoding([features[number] for number in refusing]) if refusing else None
        self.register_buffer("refusing", torch.tensor(refusing, dtype=torch.int64))

    def forward(
        self, columns: Mapping[str, Tensor | Padded]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Of f lists: ``(n, width * f)`` float64, place by place; lengths ``(n,)``; and any number
        of ``(n,)`` bool, true where their policies allow all.
        """
        lists = [padded(columns, feature.branch) for feature in self.features]
        lengths, size = lists[0].lengths, lists[0].values.shape[1]
        values = stacked([fitted(given.values, size) for given in lists], 2)
        checks = [] if self.longest is None else [lengths <= self.longest]
        if self.encoding is not None:
            inside = torch.arange(size, device=values.device) < lengths.unsqueeze(1)
            some = len(self.refusing) < len(self.features)
            chosen = values.index_select(2, self.refusing) if some else values
            checks.append(none_of(self.encoding.refused(chosen) & inside.unsqueeze(2)))
        return fitted(values, self.width).flatten(1), lengths, checks


def _parts(
    features: Sequence[FeatureTransform], same_length: Sequence[Sequence[str]]
) -> list[list[FeatureTransform]]:
    owner = {branch: tuple(part) for part in same_length for branch in part}
    parts: dict[tuple[str, ...], list[FeatureTransform]] = {}
    for feature in features:
        parts.setdefault(owner.get(feature.branch, (feature.branch,)), []).append(feature)
    return list(parts.values())


def _flat(columns: Mapping[str, Tensor | Padded], branch: str) -> Tensor:
    column = columns[branch]
    if isinstance(column, Padded):
        raise BranchError(f"{branch} has a list of values in each event", branch=branch)
    return column


def _indicators(features: Sequence[FeatureTransform]) -> dict[str, list[int]]:
    """marked: columns of values with an indicator. order: of the columns of ``x``, its place
    among those of the values and, after them, those of the indicators.
    """
    widths = [feature.width for feature in features]
    marked = np.repeat([feature.indicator for feature in features], widths)
    marks = np.concatenate([np.arange(f.columns) >= f.width for f in features])
    order = np.where(marks, len(marked) + np.cumsum(marks), np.cumsum(~marks)) - 1
    return {"marked": np.flatnonzero(marked).tolist(), "order": order.tolist()}
