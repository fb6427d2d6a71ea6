"""Drift: how far the statistics of two data sets are from each other, branch by branch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.sketch import Sketch
from hepdata_adapters.common.specs.statistics import BranchStatistics, Lengths

SKETCH_ERROR = 0.002  # of the distance of two sketches; tests measure it

Cdf = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Side:
    """A branch in one of the two data sets. lengths: mean number of values per event."""

    count: int
    mean: float
    std: float
    quantiles: dict[str, float]
    nan_share: float
    lengths: float | None


@dataclass(frozen=True)
class Drift:
    """A branch in both data sets.

    distance: the two-sample Kolmogorov-Smirnov distance of the values, lengths_distance of the
    lengths (0 for a flat branch), nan_distance the difference of the shares of NaN and infinity;
    each from 0 to 1. p_value: of the distance of values and lengths, the smaller one: how often
    two samples of one distribution are at least so far apart.
    """

    branch: str
    before: Side
    after: Side
    distance: float
    lengths_distance: float
    nan_distance: float
    p_value: float

    @property
    def drift(self) -> float:
        """The largest of the distances."""
        return max(self.distance, self.lengths_distance, self.nan_distance)


@dataclass(frozen=True)
class Comparison:
    """All branches that both have, the largest drift first; and those that only one has."""

    drifts: tuple[Drift, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


def compare(before: Specs, after: Specs) -> Comparison:
    """The drift of each branch from one data set to another, by their specs."""
    one, other = before.branches, after.branches
    drifts = [
        drift_of(name, one[name], other[name], _missing(before, name), _missing(after, name))
        for name in one
        if name in other
    ]
    return Comparison(
        drifts=tuple(sorted(drifts, key=lambda found: -found.drift)),
        only_before=tuple(name for name in one if name not in other),
        only_after=tuple(name for name in other if name not in one),
    )


def _missing(specs: Specs, name: str) -> float:
    """The part of the values that is NaN or infinite; of the events, where these are left out."""
    refused, every = specs.left_out(f"NaN or infinity in {name}")
    return refused / every if refused else specs.branches[name].nan_share


def drift_of(
    name: str,
    before: BranchStatistics,
    after: BranchStatistics,
    missing_before: float | None = None,
    missing_after: float | None = None,
) -> Drift:
    """The drift of one branch.

    missing_before, missing_after: the parts that are NaN or infinite, where the statistics do not
    hold them.

    The p-value counts the values of one event as one, as they may be alike, and takes off what
    the sketches may be wrong by: many events must not turn rounding into drift.
    """
    distance = sketch_distance(before.sketch, after.sketch)
    values = ks_p_value(distance - SKETCH_ERROR, before.independent, after.independent)
    lengths_distance, lengths = 0.0, 1.0
    if before.lengths is not None and after.lengths is not None:
        lengths_distance = length_distance(before.lengths, after.lengths)
        lengths = ks_p_value(lengths_distance, before.lengths.events, after.lengths.events)
    sides = _side(before, missing_before), _side(after, missing_after)
    return Drift(
        branch=name,
        before=sides[0],
        after=sides[1],
        distance=distance,
        lengths_distance=lengths_distance,
        nan_distance=abs(sides[0].nan_share - sides[1].nan_share),
        p_value=min(values, lengths),
    )


def sketch_distance(one: Sketch, other: Sketch) -> float:
    """The largest difference of two distribution functions, to sketch accuracy.

    0 where both have no values, 1 where only one has.

    >>> sketch_distance(((0.0, 1.0), (1.0, 1.0)), ((0.0, 1.0), (2.0, 1.0)))
    0.5
    """
    if not one or not other:
        return float(bool(one) != bool(other))
    first, second = _cdf(one), _cdf(other)
    places = np.union1d(first[0], second[0])
    # both limits at each place: there the functions may jump
    places = np.concatenate((np.nextafter(places, -np.inf), np.nextafter(places, np.inf)))
    return float(np.abs(_at(first, places) - _at(second, places)).max())


def length_distance(one: Lengths, other: Lengths) -> float:
    """The largest difference of the distribution functions of two sets of lengths, exactly.

    >>> length_distance(Lengths(counts={0: 1, 2: 1}), Lengths(counts={2: 2}))
    0.5
    """
    if not one.events or not other.events:
        return float(bool(one.events) != bool(other.events))
    lengths = sorted(one.counts.keys() | other.counts.keys())
    below = [
        np.cumsum([found.counts.get(length, 0) for length in lengths]) / found.events
        for found in (one, other)
    ]
    return float(np.abs(below[0] - below[1]).max())


def ks_p_value(distance: float, n: float, m: float) -> float:
    """How likely two samples of n and m values of one distribution are so far apart or farther.

    Kolmogorov (1933), the limit for many values:
    ``Q(x) = 2 sum_k (-1)^(k-1) exp(-2 k^2 x^2)`` at ``x = distance sqrt(n m / (n + m))``.

    >>> round(ks_p_value(0.1, 100, 100), 3), ks_p_value(0.0, 100, 100)
    (0.699, 1.0)
    """
    x = distance * math.sqrt(n * m / (n + m)) if n and m else 0.0
    if x <= 0.2:  # Q(0.2) is 1 - 5e-13, and the series would need ever more terms
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k**2 * x**2) for k in range(1, 101))
    return min(max(2 * math.fsum(terms), 0.0), 1.0)


def _side(statistics: BranchStatistics, missing: float | None) -> Side:
    return Side(
        count=statistics.count,
        mean=statistics.mean,
        std=statistics.std,
        quantiles=statistics.quantiles,
        nan_share=statistics.nan_share if missing is None else missing,
        lengths=None if statistics.lengths is None else statistics.lengths.mean,
    )


def _cdf(sketch: Sketch) -> Cdf:
    """Places and heights between which the distribution function is linear; it may jump.

    A mean that several centroids share, and a single value, is where values lie. Half of any
    other centroid lies below its mean.
    """
    means, inverse = np.unique([mean for mean, _ in sketch], return_inverse=True)
    weights = np.bincount(inverse, [weight for _, weight in sketch])
    atoms = (np.bincount(inverse) > 1) | (weights == 1.0)
    if len(means) == 1:
        atoms[:] = True
    above = np.cumsum(weights)
    below = above - weights
    middle = (above + below) / 2
    low, high = np.where(atoms, below, middle), np.where(atoms, above, middle)
    return np.repeat(means, 2), np.stack((low, high), axis=1).reshape(-1) / above[-1]


def _at(cdf: Cdf, places: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(places, *cdf, left=0.0, right=1.0)


def above(comparison: Comparison, limit: float) -> Sequence[Drift]:
    """The branches that drift by more than ``limit``."""
    return [found for found in comparison.drifts if found.drift > limit]
