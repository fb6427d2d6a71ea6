"""``asinh``: linear within the spread around the median, logarithmic beyond."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from hepdata_adapters.common.core.text import number
from hepdata_adapters.common.transform.scalings.function import (
    Finite,
    Function,
    Scaled,
    ScalingBackend,
    TrainingValues,
    Values,
)


class Asinh(Function):
    """``asinh((value - center) / scale)``: linear near the center, logarithmic far from it.

    >>> Asinh(center=1.0)(np.array([1.0])).tolist(), Asinh(center=1.0).inverse(np.zeros(1)).tolist()
    ([0.0], [1.0])
    """

    parameters: ClassVar[tuple[str, ...]] = ("center", "scale")

    kind: Literal["asinh"] = "asinh"
    center: Finite = 0.0
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @property
    def text(self) -> str:
        sign = "−" if self.center >= 0 else "+"
        inner = f"(value {sign} {number(abs(self.center))})" if self.center else "value"
        return f"asinh({inner} / {number(self.scale)})"

    def forward(self, backend: ScalingBackend, values: Any, center: Any, scale: Any) -> Any:
        return backend.math.asinh((values - center) / scale)

    def inverse(self, values: Values) -> Values:
        return np.sinh(values) * self.scale + self.center

    def fails_above(self, low: float) -> bool:
        # of a tiny scale the ratio is no float64 number any more
        return self.scale < 1


def asinh(values: TrainingValues) -> Scaled:
    """`Asinh` with the numbers of ``robust``, so that it depends on no unit."""
    center, spread = values.location_and_spread()
    return Scaled(Asinh(center=center, scale=spread if spread > 0 else 1.0))
