"""``log`` and ``log1p``: the logarithm first, then ``robust`` of its values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hepdata_adapters.common.transform.scalings.function import (
    Function,
    Scaled,
    ScalingBackend,
    TrainingValues,
    Values,
    factor_of,
)


class Log(Function):
    """The natural logarithm, of values above 0.

    >>> Log()(np.array([1.0])).tolist(), Log().inverse(np.array([0.0])).tolist()
    ([0.0], [1.0])
    """

    kind: Literal["log"] = "log"

    @property
    def text(self) -> str:
        return "log(value)"

    def forward(self, backend: ScalingBackend, values: Any) -> Any:
        return backend.math.log(values)

    def inverse(self, values: Values) -> Values:
        return np.exp(values)

    def fails_above(self, low: float) -> bool:
        return low <= 0


class Log1p(Function):
    """``log(1 + value)``, of values above -1.

    >>> Log1p()(np.array([0.0])).tolist(), Log1p().inverse(np.array([0.0])).tolist()
    ([0.0], [0.0])
    """

    kind: Literal["log1p"] = "log1p"

    @property
    def text(self) -> str:
        return "log(1 + value)"

    def forward(self, backend: ScalingBackend, values: Any) -> Any:
        return backend.math.log1p(values)

    def inverse(self, values: Values) -> Values:
        return np.expm1(values)

    def fails_above(self, low: float) -> bool:
        return low <= -1


def log(values: TrainingValues) -> Scaled:
    """`Log`, then ``robust``. Raises FeatureError where training values have no logarithm."""
    return _fitted(Log(), values, 0, "log1p, asinh")


def log1p(values: TrainingValues) -> Scaled:
    """`Log1p`, then ``robust``. Raises FeatureError where training values have no logarithm."""
    return _fitted(Log1p(), values, -1, "asinh")


def _fitted(function: Log | Log1p, values: TrainingValues, limit: int, others: str) -> Scaled:
    low, _ = values.range()
    if function.fails_above(low):
        values.refuse(
            f"goes down to {low:g}, and {function.kind} takes values above {limit} only: scale "
            f"it by {others}, or give a clip with a lower limit above {limit}",
            scaling="asinh",
        )
    center, spread = values.location_and_spread(function)
    return Scaled(function, center, factor_of(spread))
