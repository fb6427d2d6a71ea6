"""``quantile``: the share of training values below, so that training values are uniform in 0…1."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from hepdata_adapters.common.core.text import number
from hepdata_adapters.common.transform.scalings.function import (
    Finite,
    Function,
    Scaled,
    ScalingBackend,
    TrainingValues,
    Values,
)

LEVELS = 101
"""Knots: one a percent, which the sketch knows to 0.1 %."""


class Quantile(Function):
    """The fraction of values below: straight lines between ``knots`` (values) and ``levels``.

    What lies beyond the first and the last knot gets the first and the last level.

    >>> Quantile(knots=(0, 10, 30), levels=(0, 0.5, 1))(np.array([-1.0, 5.0, 20.0])).tolist()
    [0.0, 0.25, 0.75]
    """

    parameters: ClassVar[tuple[str, ...]] = ("knots", "levels")

    kind: Literal["quantile"] = "quantile"
    knots: tuple[Finite, ...] = Field(min_length=2, max_length=4096)
    levels: tuple[Finite, ...] = Field(min_length=2, max_length=4096)

    @model_validator(mode="after")
    def _increasing(self) -> Quantile:
        if len(self.knots) != len(self.levels):
            raise ValueError("a quantile function has as many levels as knots")
        if min(np.diff(self.knots).min(), np.diff(self.levels).min()) <= 0:
            raise ValueError("the knots and levels of a quantile function grow")
        return self

    @property
    def text(self) -> str:
        first, last = number(self.knots[0]), number(self.knots[-1])
        return f"share of training values below ({len(self.knots)} knots from {first} to {last})"

    @property
    def largest(self) -> float:
        return max(abs(self.levels[0]), abs(self.levels[-1]))

    def forward(self, backend: ScalingBackend, values: Any, knots: Any, levels: Any) -> Any:
        return backend.interpolate(values, knots, levels)

    def inverse(self, values: Values) -> Values:
        return np.interp(values, self.levels, self.knots)


def quantile(values: TrainingValues) -> Scaled:
    """`Quantile` with knots at each percent; a constant column keeps its distance from it.

    A value that fills several percents is one knot at the middle of these, so that the function
    can be turned around; the minimum stays at 0 and the maximum at 1.
    """
    levels = np.linspace(0, 1, LEVELS)
    knots, first, count = np.unique(values.quantiles(levels), return_index=True, return_counts=True)
    if len(knots) == 1:
        return Scaled(None, values.range()[0])
    middle = (levels[first] + levels[first + count - 1]) / 2
    middle[0], middle[-1] = 0.0, 1.0
    return Scaled(Quantile(knots=tuple(knots.tolist()), levels=tuple(middle.tolist())))
