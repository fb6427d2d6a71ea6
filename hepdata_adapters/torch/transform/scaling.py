"""The scaling of values as an ``nn.Module``, in operations that torch.export and ONNX take.

Parameters are float64 tensors, because an ONNX graph would round Python floats to float32. One
operation works on all columns at once, as few of them on a matrix are faster than many on columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.scaling import LARGEST, FeatureTransform
from hepdata_adapters.common.transform.scaling_functions import (
    Asinh,
    Quantile,
    Registered,
    ScalingFunction,
    registered,
)


class Encoding(nn.Module):
    """Raw values to scaled ones, what `FeatureTransform.encode` does; one feature a column.

    >>> encoding = Encoding([FeatureTransform(
    ...     branch="MET", kind="flat", dtype="float32", width=1, factor=0.5, missing=3)])
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

    def __init__(self, features: Sequence[FeatureTransform]) -> None:
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
    """Each column through its function, all columns of one kind at once."""

    order: Tensor

    def __init__(self, functions: Sequence[ScalingFunction | None]) -> None:
        super().__init__()
        columns: dict[str, list[int]] = {}
        for column, function in enumerate(functions):
            columns.setdefault(_kind(function), []).append(column)
        self.groups = nn.ModuleList(
            _group([functions[column] for column in members]) for members in columns.values()
        )
        for number, members in enumerate(columns.values()):
            self.register_buffer(f"members{number}", torch.tensor(members))
        places = np.argsort(np.concatenate(list(columns.values())))
        self.register_buffer("order", torch.from_numpy(places))

    def forward(self, values: Tensor) -> Tensor:
        found = [
            group(values.index_select(-1, self.get_buffer(f"members{number}")))
            for number, group in enumerate(self.groups)
        ]
        return torch.cat(found, -1).index_select(-1, self.order)


def _kind(function: ScalingFunction | None) -> str:
    if function is None:
        return ""
    return f"registered {function.name}" if isinstance(function, Registered) else function.kind


def _group(functions: Sequence[ScalingFunction | None]) -> nn.Module:
    """The module of columns whose functions are of one kind."""
    first = functions[0]
    if first is None:
        return nn.Identity()
    if isinstance(first, Registered):
        return _Registered(first.name)
    if isinstance(first, Asinh):
        return _Asinh([f for f in functions if isinstance(f, Asinh)])
    if isinstance(first, Quantile):
        return _Quantile([f for f in functions if isinstance(f, Quantile)])
    return _Log() if first.kind == "log" else _Log1p()


class _Log(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.log()


class _Log1p(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return _log1p(values)


class _Asinh(nn.Module):
    """By its logarithm: onnxruntime has asinh for float32 only."""

    center: Tensor
    scale: Tensor

    def __init__(self, functions: Sequence[Asinh]) -> None:
        super().__init__()
        for name in ("center", "scale"):
            numbers = [getattr(function, name) for function in functions]
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        ratio = (values - self.center) / self.scale
        size = ratio.abs()
        # beyond 2^28, 1 + size² is size² in float64, and squares of more would overflow
        squared = size.clamp(max=2.0**28).square()
        near = _log1p(size + squared / (1 + (1 + squared).sqrt()))
        far = size.log() + torch.full_like(size, 2.0).log()
        return ratio.sign() * torch.where(size < 2.0**28, near, far)


class _Quantile(nn.Module):
    """Straight lines between knots, found by bisection in one table of all columns.

    A binary search in steps of indexing, because ONNX has no search.
    """

    knots: Tensor
    levels: Tensor
    start: Tensor
    last: Tensor

    def __init__(self, functions: Sequence[Quantile]) -> None:
        super().__init__()
        sizes = [len(function.knots) for function in functions]
        tables = {
            name: [v for f in functions for v in getattr(f, name)] for name in ("knots", "levels")
        }
        for name, numbers in tables.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float64))
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        self.register_buffer("start", torch.from_numpy(starts))
        # the last knot that begins a line
        self.register_buffer("last", torch.from_numpy(starts + sizes - 2))
        self.steps = [2**power for power in reversed(range(max(sizes).bit_length()))]

    def forward(self, values: Tensor) -> Tensor:
        place = self.start + torch.zeros_like(values, dtype=torch.int64)
        for step in self.steps:
            ahead = (place + step).minimum(self.last)
            place = torch.where(values >= self.knots[ahead], ahead, place)
        left, right = self.knots[place], self.knots[place + 1]
        low, high = self.levels[place], self.levels[place + 1]
        # clamped, as what lies beyond the knots gets the first or last level
        part = ((values - left) / (right - left)).clamp(0, 1)
        return low + part * (high - low)


class _Registered(nn.Module):
    """A function of the user's; the name is all that a copy of this module holds."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, values: Tensor) -> Tensor:
        try:
            result = registered(self.name).function(torch, values)
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(f"scaling function {self.name!r} failed: {error!r}") from error
        if not isinstance(result, Tensor) or result.shape != values.shape:
            raise ConfigError(
                f"scaling function {self.name!r} did not return a tensor of the shape of its values"
            )
        return result.to(torch.float64)


def _log1p(values: Tensor) -> Tensor:
    """``log(1 + value)`` to full accuracy by logarithms alone, as ONNX has no log1p.

    W. Kahan's formula, from Higham, Accuracy and Stability of Numerical Algorithms (2002), 1.14.1.
    """
    above = 1 + values
    return torch.where(above == 1, values, above.log() * (values / (above - 1)))
