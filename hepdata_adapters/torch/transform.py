"""The transform as an ``nn.Module``: raw columns as tensors to the vector that the model sees.

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

from hepdata_adapters.common.dense import LENGTH, input_names
from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.transform.vector import (
    LARGEST,
    PAD_VALUE,
    FeatureTransform,
    VectorTransform,
)


class TransformedEvents(NamedTuple):
    """The output for n events, d columns and j jagged branches.

    x: ``(n, d)`` float32, padded entries 0. mask: ``(n, d)`` bool, true = real value.
    lengths: ``(n, j)`` int32, real values kept of each jagged branch.
    valid: ``(n,)`` bool, false where the reference transform raises: NaN or infinity without a
    fill value, a number too large for float32, an overlong list that must not be cut, and a
    length that its padded row cannot have. ``x`` of such an event means nothing.
    """

    x: Tensor
    mask: Tensor
    lengths: Tensor
    valid: Tensor


class EventTransform(nn.Module):
    """Dense inputs by name (see `hepdata_adapters.common.dense`) to `TransformedEvents`.

    A flat branch is ``(n,)``, an array branch ``(n, k)``, a jagged one ``(n, m)`` for any m,
    beside its lengths ``(n,)`` int64. What stands
    behind an event's length is never looked at. Raises ConfigError where two inputs would share
    a name.

    >>> transform = EventTransform(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2))))
    >>> out = transform({"MET": torch.tensor([10.0, torch.nan]),
    ...                  "pt": torch.tensor([[3.0], [0.0]]), "pt_length": torch.tensor([1, 0])})
    >>> out.x[0].tolist(), out.mask[0].tolist(), out.valid.tolist()
    ([5.0, 3.0, 0.0], [True, True, False], [True, False])
    """

    owner: Tensor
    place: Tensor
    width: Tensor

    def __init__(self, transform: VectorTransform) -> None:
        super().__init__()
        self.features = transform.features
        self.jagged = transform.jagged
        self.inputs = input_names(transform)
        self.scaling = _Scaling(transform.features)
        self.lists = nn.ModuleList(map(_ListCheck, transform.jagged))
        # of each column of x: the number of its list and its place there; list 0 has length 1
        # in every event and owns the columns that are always there
        jagged = {feature.branch: number for number, feature in enumerate(transform.jagged, 1)}
        owners = [jagged.get(f.branch, 0) for f in self.features for _ in range(f.width)]
        places = [i if f.branch in jagged else 0 for f in self.features for i in range(f.width)]
        widths = [feature.width for feature in transform.jagged]
        for name, numbers in {"owner": owners, "place": places, "width": widths}.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.int64))

    def forward(self, inputs: Mapping[str, Tensor]) -> TransformedEvents:
        """``inputs`` by name, all of n events.

        Raises ConfigError if the module was cast to another dtype than float64.
        """
        columns: list[Tensor] = []
        lengths: list[Tensor] = []
        for feature in self.features:
            name = self.inputs[feature.branch]
            # scaled in float64, so that large values lose digits only in the result
            values = inputs[name].to(torch.float64)
            if feature.kind == "jagged":
                lengths.append(inputs[name + LENGTH])
                values = nn.functional.pad(values, (0, feature.width))[:, : feature.width]
            columns.append(values.reshape(-1, feature.width))
        raw = torch.cat(columns, 1)
        always = torch.ones_like(raw[:, 0], dtype=torch.int64)
        counts = torch.stack([always, *lengths], 1)
        present = self.place < counts[:, self.owner]
        scaled, refused = self.scaling(raw)
        valid = _none_of(refused & present)
        for number, feature in enumerate(self.jagged):
            values = inputs[self.inputs[feature.branch]]
            valid = valid & self.lists[number](values, lengths[number])
        return TransformedEvents(
            x=torch.where(present, scaled, PAD_VALUE),
            mask=present & torch.isfinite(raw),
            lengths=counts[:, 1:].minimum(self.width).to(torch.int32),
            valid=valid,
        )


class _Scaling(nn.Module):
    """Raw float64 columns to float32, with the parameters of the features that they stand for.

    The parameters are ``(columns,)`` float64 tensors, because an ONNX graph would round Python
    floats to float32, and because few operations on a matrix are faster than many on columns.
    """

    center: Tensor
    factor: Tensor
    fill: Tensor
    largest: Tensor

    def __init__(self, features: Sequence[FeatureTransform]) -> None:
        super().__init__()
        columns = [feature for feature in features for _ in range(feature.width)]
        parameters = {
            "center": [feature.center for feature in columns],
            "factor": [feature.factor for feature in columns],
            # NaN stays where nothing may replace it
            "fill": [np.nan if f.missing is None else f.missing for f in columns],
            "largest": [_largest(feature) for feature in columns],
        }
        for name, values in parameters.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled values, and which of them their policies refuse."""
        if self.center.dtype != torch.float64:
            raise ConfigError(
                f"the transform scales in float64 and was cast to {self.center.dtype}: "
                "cast the model behind it, not both"
            )
        filled = torch.where(torch.isfinite(raw), raw, self.fill)
        scaled = (filled - self.center) * self.factor
        # written so that NaN is refused
        refused = ~(scaled.abs() <= self.largest)
        return scaled.to(torch.float32), refused


class _ListCheck(nn.Module):
    """Which events have a list of one jagged branch that its policies allow."""

    def __init__(self, feature: FeatureTransform) -> None:
        super().__init__()
        self.width = feature.width if feature.overflow == "error" else None
        # all values count, also those behind the pad length; of most dtypes none is refused
        checked = np.dtype(feature.dtype).kind == "f" or feature.may_overflow
        unlimited = feature.missing is not None and np.isinf(_largest(feature))
        alone = feature.model_copy(update={"width": 1})
        self.scaling = _Scaling([alone]) if checked and not unlimited else None

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """``values`` ``(n, m)``, ``lengths`` ``(n,)`` int64 → ``(n,)`` bool."""
        columns = values.shape[1]
        allowed = (lengths >= 0) & (lengths <= columns)
        if self.width is not None:
            allowed = allowed & (lengths <= self.width)
        if self.scaling is not None:
            inside = torch.arange(columns, device=values.device) < lengths.unsqueeze(1)
            _, refused = self.scaling(values.to(torch.float64))
            allowed = allowed & _none_of(refused & inside)
        return allowed


def _largest(feature: FeatureTransform) -> float:
    """The largest scaled value that is allowed; infinity where float32 holds them all."""
    return LARGEST if feature.may_overflow else np.inf


def _none_of(flags: Tensor) -> Tensor:
    """Rows without a set flag; a sum, because ONNX's maximum of no column is a set flag."""
    return flags.sum(1) == 0
