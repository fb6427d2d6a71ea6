"""Bins of the pictures: fixed before the first event is read, from the specs alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.transform.scaling import ValueScaling

BINS = 50
TAIL = 0.001
"""The range starts and ends at these quantiles, so that one wild value does not stretch it."""
MARGIN = 0.25
"""The minimum or maximum is the end instead if it is within this part of the range from it."""
DECADES = 100.0
"""Positive values whose range spans this ratio get bins of equal width of the logarithm."""

CONTRAST = 30.0
"""Heights of which the largest is this many times the median get a logarithmic axis."""


@dataclass(frozen=True, eq=False)
class Binning:
    """edges: ``(bins + 1,)`` float64, upwards. whole: one bin for each whole number."""

    edges: NDArray[np.float64]
    logarithmic: bool = False
    whole: bool = False


def raw_binning(stats: BranchStatistics) -> Binning | None:
    """The bins of the values of a branch; None where there is nothing to draw.

    That is for no values, and for one that is always the same. Integers of up to ``BINS``
    different values get a bin each.

    >>> stats = BranchStatistics(dtype="int32", kind="flat", count=9, minimum=2, maximum=4)
    >>> raw_binning(stats).edges.tolist()
    [1.5, 2.5, 3.5, 4.5]
    """
    if stats.minimum is None or stats.maximum is None or stats.minimum == stats.maximum:
        return None
    least, most = float(stats.minimum), float(stats.maximum)
    if np.dtype(stats.dtype).kind in "biu" and most - least < BINS:
        return Binning(np.arange(least - 0.5, most + 1), whole=True)
    low, high = (float(np.clip(stats.quantile(q), least, most)) for q in (TAIL, 1 - TAIL))
    if low > 0 and least > 0 and high > DECADES * low:
        low, high = _widened(low, high, least, most, math.log)
        edges = np.geomspace(low, high, BINS + 1)
        edges[[0, -1]] = low, high  # without rounding
        return Binning(_above(edges), logarithmic=True)
    low, high = _widened(low, high, least, most, float)
    return Binning(_above(np.linspace(low, high, BINS + 1)))


def scaled_binning(
    feature: ValueScaling, raw: Binning | None, stats: BranchStatistics
) -> Binning | None:
    """The bins of what a feature makes of these values; None where there is nothing to draw.

    Their range is that of the scaled values of the same range of raw ones, also of a user's
    function that does not grow: the centroids of the sketch are scaled, too.
    """
    if raw is None:
        return None
    if raw.whole and feature.function is None and feature.clip is None and feature.factor > 0:
        return Binning((raw.edges - feature.center) * feature.factor, whole=True)
    low, high = raw.edges[[0, -1]]
    points = np.array([mean for mean, _ in stats.sketch] + [low, high])
    encoded = feature.encode(points[(points >= low) & (points <= high)])
    values = encoded.values[~(encoded.filled | encoded.refused)].astype(np.float64)
    if not len(values) or values.min() == values.max():
        return None
    # float32 rounds the scaled ends to either side
    margin = 1e-6 * (values.max() - values.min())
    return Binning(_above(np.linspace(values.min() - margin, values.max() + margin, BINS + 1)))


def length_binning(longest: int) -> Binning:
    """Bins of numbers of objects, one for each number or for as many as keep the bins few.

    >>> length_binning(2).edges.tolist(), len(length_binning(10_000).edges)
    ([-0.5, 0.5, 1.5, 2.5], 52)
    """
    width = 1 if longest <= 2 * BINS else math.ceil(longest / BINS)
    edges = np.arange(0, longest + 1 + width, width, dtype=np.float64) - 0.5
    return Binning(edges, whole=width == 1)


def logarithmic_heights(heights: NDArray[np.float64]) -> bool:
    """Whether heights are drawn on a logarithmic axis: on another, most are a line at the bottom.

    So where the highest is more than ``CONTRAST`` times the median of those that are not 0.

    >>> logarithmic_heights(np.array([1.0, 2.0, 0.0, 100.0]))
    True
    """
    filled = heights[heights > 0]
    return len(filled) > 1 and bool(filled.max() > CONTRAST * np.median(filled))


def _widened(
    low: float, high: float, least: float, most: float, scale: Callable[[float], float]
) -> tuple[float, float]:
    """The range, out to the minimum and maximum where these are near on this scale."""
    if low == high:
        return least, most
    near = MARGIN * (scale(high) - scale(low))
    return (
        least if scale(low) - scale(least) <= near else low,
        most if scale(most) - scale(high) <= near else high,
    )


def _above(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """The edges with the last one moved up a little: it does not belong to its bin."""
    edges[-1] = np.nextafter(edges[-1], np.inf)
    return edges
