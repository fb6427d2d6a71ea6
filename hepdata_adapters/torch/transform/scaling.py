"""The scaling of values as an ``nn.Module``, in operations that torch.export and ONNX take.

Parameters are float64 tensors, because an ONNX graph would round Python floats to float32. One
operation works on all columns at once, as few of them on a matrix are faster than many on columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.transform.scaling import LARGEST, ValueScaling
from hepdata_adapters.common.transform.scalings.function import Function, ScalingBackend
from hepdata_adapters.torch.transform.elementary import TorchMathematics
from hepdata_adapters.torch.transform.search import last_not_above


class Encoding(nn.Module):
    """Raw values to scaled ones, what `ValueScaling.encode` does; one feature a column.

    >>> encoding = Encoding([ValueScaling(
    ...     branch="MET", dtype="float32", factor=0.5, missing=3)])
    >>> scaled, real, refused = encoding(torch.tensor([[10.0], [torch.nan]]).double())
    >>> scaled.tolist(), real.tolist(), refused.tolist()
    ([[5.0], [1.5]], [[True], [False]], [[False], [False]])
    """

    center: Tensor
    factor: Tensor
    fill: Tensor
    largest: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, features: Sequence[ValueScaling]) -> None:
        super().__init__()
        parameters = {
            "center": [feature.center for feature in features],
            "factor": [feature.factor for feature in features],
            # NaN stays where nothing may replace it
            "fill": [np.nan if f.missing is None else f.fill for f in features],
            "largest": [LARGEST if f.may_overflow else np.inf for f in features],
            "low": [feature.interval[0] for feature in features],
            "high": [feature.interval[1] for feature in features],
        }
        for name, values in parameters.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.clips = any(feature.clip is not None for feature in features)
        used = any(feature.function is not None for feature in features)
        self.functions = _Functions([feature.function for feature in features]) if used else None

    def forward(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``raw`` ``(..., c)`` float64 of c features → values float32, real bool, refused bool.

        real: neither NaN nor infinite, and in the domain of the function. What stands for a
        refused value means nothing. Raises ConfigError if the module was cast to another dtype
        than float64.
        """
        scaled, real = self._scaled(raw)
        return scaled.to(torch.float32), real, self._too_large(scaled)

    def refused(self, raw: Tensor) -> Tensor:
        """The last of what `forward` gives, alone."""
        return self._too_large(self._scaled(raw)[0])

    def _too_large(self, scaled: Tensor) -> Tensor:
        return ~(scaled.abs() <= self.largest)  # written so that NaN is refused

    def _scaled(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        if self.center.dtype != torch.float64:
            raise ConfigError(
                f"the transform scales in float64 and was cast to {self.center.dtype}: "
                "cast the model behind it, not both"
            )
        real = torch.isfinite(raw)
        values = raw
        if self.clips:
            values = values.maximum(self.low).minimum(self.high)
        if self.functions is not None:
            values = self.functions(values)
            real = real & torch.isfinite(values)
        return torch.where(real, (values - self.center) * self.factor, self.fill), real


class _Functions(nn.Module):
    """Each column through its function, all columns of one group at once."""

    order: Tensor

    def __init__(self, functions: Sequence[Function | None]) -> None:
        super().__init__()
        columns: dict[Hashable, list[int]] = {}
        for column, function in enumerate(functions):
            columns.setdefault(function and function.group, []).append(column)
        self.groups = nn.ModuleList(
            _Group([functions[column] for column in members]) for members in columns.values()
        )
        for number, members in enumerate(columns.values()):
            self.register_buffer(f"members{number}", torch.tensor(members))
        places = np.argsort(np.concatenate(list(columns.values())))
        self.register_buffer("order", torch.from_numpy(places))

    def forward(self, values: Tensor) -> Tensor:
        computed = [
            group(values.index_select(-1, self.get_buffer(f"members{number}")))
            for number, group in enumerate(self.groups)
        ]
        return torch.cat(computed, -1).index_select(-1, self.order)


class _Group(nn.Module):
    """Columns whose functions differ in their parameters alone, which are buffers here."""

    def __init__(self, functions: Sequence[Function | None]) -> None:
        super().__init__()
        self.function = functions[0]
        alike = [function for function in functions if function is not None]
        for name in self.function.parameters if self.function else ():
            self.register_buffer(name, _by_column([getattr(f, name) for f in alike]))

    def forward(self, values: Tensor) -> Tensor:
        function = self.function
        if function is None:
            return values
        parameters = [self.get_buffer(name) for name in function.parameters]
        result: Tensor = function.forward(TORCH, values, *parameters)
        return result


def _by_column(numbers: Sequence[float | Sequence[float]]) -> Tensor:
    """``(c,)``, or ``(c, k)`` of tables, the last number of a shorter one repeated."""
    tables = [number if isinstance(number, Sequence) else (number,) for number in numbers]
    longest = max(map(len, tables))
    filled = [[*table, *[table[-1]] * (longest - len(table))] for table in tables]
    by_column = torch.tensor(filled, dtype=torch.float64)
    return by_column if isinstance(numbers[0], Sequence) else by_column[:, 0]


class TorchBackend:
    """`ScalingBackend` on ``(..., c)`` float64 tensors, in operations that ONNX has."""

    math = cast(Mathematics, TorchMathematics)
    namespace: Any = torch

    @staticmethod
    def interpolate(values: Tensor, knots: Tensor, levels: Tensor) -> Tensor:
        """knots, levels: ``(c, k)``, the last of a column may be repeated."""
        columns, size = knots.shape
        first = torch.arange(columns, device=knots.device) * size
        table, heights = knots.reshape(-1), levels.reshape(-1)
        place = last_not_above(values, table, first, size - 1)
        left, right = table[place], table[place + 1]
        low, high = heights[place], heights[place + 1]
        # a repeated knot ends the lines; what lies beyond the knots gets the first or last level
        part = (values - left) / torch.where(right > left, right - left, torch.inf)
        return low + part.clamp(0, 1) * (high - low)

    @staticmethod
    def as_values(result: object, values: Tensor) -> Tensor:
        if not isinstance(result, Tensor) or result.shape != values.shape:
            raise ValueError("did not return a tensor of the shape of its values")
        return result.to(torch.float64)


TORCH: ScalingBackend = TorchBackend()
