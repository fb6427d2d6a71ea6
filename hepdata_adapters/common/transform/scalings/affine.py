"""Scalings without a function: centred and scaled by statistics of the training split."""

from __future__ import annotations

from hepdata_adapters.common.transform.scalings.function import (
    Scaled,
    TrainingValues,
    factor_of,
)


def none(values: TrainingValues) -> Scaled:
    """The values as they are."""
    return Scaled()


def minmax(values: TrainingValues) -> Scaled:
    """Minimum and range to 0…1 (paper, sect. 3.2)."""
    low, high = values.range()
    return Scaled(None, low, factor_of(high - low))


def standard(values: TrainingValues) -> Scaled:
    """Mean and standard deviation; a constant column keeps its distance from the constant."""
    low, high = values.range()
    # the rounding of the mean alone would make a constant column look spread
    return Scaled(None, values.mean, factor_of(values.std)) if high > low else Scaled(None, low)


def robust(values: TrainingValues) -> Scaled:
    """Median, and half the distance of the 16 % and 84 % quantiles.

    That is one standard deviation of a normal distribution; where the quantiles coincide, the
    standard deviation is taken.
    """
    center, spread = values.location_and_spread()
    return Scaled(None, center, factor_of(spread))
