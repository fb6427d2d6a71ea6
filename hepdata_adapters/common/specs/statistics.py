"""Mergeable statistics of one branch: counts, range, moments, quantiles, lengths.

Moments merge by the pairwise formula of Chan, Golub and LeVeque (1979), weighted ones by that of
West (1979). Quantiles come from a t-digest (Dunning 2019, see `sketch`), whose centroids are kept
as plain numbers; lengths are counted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hepdata_adapters.common.specs.sketch import compressed, quantile_of, quantile_table
from hepdata_adapters.common.specs.sparse import Sparse


class Moments(NamedTuple):
    """Number or weight of values, their mean, and the sum of squared deviations from it.

    >>> Moments(2.0, 1.0, 0.0).joined(Moments(2.0, 3.0, 0.0))
    Moments(weight=4.0, mean=2.0, m2=4.0)
    """

    weight: float = 0.0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of_weighted(cls, values: NDArray[np.float64], weights: NDArray[np.float64]) -> Moments:
        """Those of values ``(n,)`` with weights of at least 0; none where nothing weighs."""
        if not weights.any():
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):  # see `check_moments`
            mean = float(np.average(values, weights=weights))
            return cls(
                float(weights.sum()), mean, float((weights * np.square(values - mean)).sum())
            )

    def joined(self, other: Moments) -> Moments:
        """Those of both sets of values together; infinite or NaN where they do not fit."""
        if not self.weight or not other.weight:
            return self if self.weight else other
        total = self.weight + other.weight
        shift = other.mean - self.mean
        return Moments(
            total,
            self.mean + shift * other.weight / total,
            self.m2 + other.m2 + shift * shift * self.weight * other.weight / total,
        )


class Lengths(BaseModel):
    """How many events have how many values: ``counts[length]``.

    >>> Lengths(counts={0: 1, 2: 98, 7: 1}).quantile(0.99)
    2
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: dict[int, int]

    @property
    def events(self) -> int:
        return sum(self.counts.values())

    @property
    def mean(self) -> float:
        """Values per event."""
        return sum(n * events for n, events in self.counts.items()) / max(self.events, 1)

    @property
    def max(self) -> int:
        return max(self.counts, default=0)

    def quantile(self, q: float) -> int:
        """The smallest length that at least the fraction ``q`` of events does not exceed."""
        lengths = sorted(self.counts)
        below = np.cumsum([self.counts[length] for length in lengths])
        if not lengths:
            return 0
        # 0.99 * 100 is a little above 99 in floating point
        return lengths[int(np.searchsorted(below, q * below[-1] - 1e-9 * below[-1]))]

    def merge(self, other: Lengths) -> Lengths:
        names = sorted(self.counts.keys() | other.counts.keys())
        return Lengths(counts={n: self.counts.get(n, 0) + other.counts.get(n, 0) for n in names})


class BranchStatistics(Sparse):
    """Statistics of the finite values of a branch over the training split.

    count: finite values. m2: sum of squared deviations from the mean, each times its weight.
    sketch: centroids of the t-digest (mean, number or weight of values). quantiles: a table for
    people, the sketch has the rest. sum_of_weights, sum_of_squares: of the finite values, where
    they are weighted; counts, minimum, maximum and lengths never are.

    >>> BranchStatistics(dtype="float64", kind="flat", count=4, mean=2.0, m2=16.0).std
    2.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    optional = ("sum_of_weights", "sum_of_squares")

    dtype: str
    kind: Literal["flat", "array", "jagged"]
    size: int = Field(default=1, ge=1)
    count: int = Field(default=0, ge=0)
    nan: int = Field(default=0, ge=0)
    positive_infinity: int = Field(default=0, ge=0)
    negative_infinity: int = Field(default=0, ge=0)
    minimum: int | float | None = None
    maximum: int | float | None = None
    mean: float = 0.0
    m2: float = Field(default=0.0, ge=0)
    quantiles: dict[str, float] = Field(default={})
    sketch: tuple[tuple[float, Annotated[float, Field(gt=0)]], ...] = ()
    lengths: Lengths | None = None
    sum_of_weights: float | None = Field(default=None, ge=0)
    sum_of_squares: float | None = Field(default=None, ge=0)

    @property
    def weighted(self) -> bool:
        """Whether moments and quantiles are those of weighted values."""
        return self.sum_of_weights is not None

    @property
    def weight(self) -> float:
        """The sum of the weights of the finite values: their number, if they are unweighted."""
        return float(self.count) if self.sum_of_weights is None else self.sum_of_weights

    @property
    def moments(self) -> Moments:
        """Their number or weight, mean and sum of squared deviations."""
        return Moments(self.weight, self.mean, self.m2)

    @property
    def std(self) -> float:
        """Standard deviation of the values (divided by their number or weight)."""
        if self.sum_of_weights is None:
            return float(np.sqrt(self.m2 / self.count)) if self.count else 0.0
        return math.sqrt(self.m2 / self.weight) if self.weight else 0.0

    @property
    def independent(self) -> float:
        """How many independent values the statistics are worth.

        The values of one event count as one, the careful way: they may be alike. Weighted ones
        are worth (sum of weights)^2 / (sum of squares), Kish (1965).
        """
        filled = self.count / self.size
        if self.lengths is not None:
            filled = min(self.count, self.lengths.events - self.lengths.counts.get(0, 0))
        if not self.sum_of_weights or not self.sum_of_squares:
            return 0.0 if self.weighted else float(filled)
        return filled / self.count * self.sum_of_weights**2 / self.sum_of_squares

    @property
    def mean_error(self) -> float:
        """Standard error of the mean, as an estimate for all events like these."""
        return self.std / math.sqrt(self.independent) if self.independent else 0.0

    def rank_error(self, q: float) -> float:
        """Standard error of the rank of the quantile ``q``: ``sqrt(q (1 - q) / n)``."""
        return math.sqrt(q * (1 - q) / self.independent) if self.independent else 0.0

    @property
    def nan_share(self) -> float:
        """The part of the values that is NaN or infinite."""
        bad = self.nan + self.positive_infinity + self.negative_infinity
        return bad / (bad + self.count) if bad else 0.0

    @property
    def mean_bytes(self) -> float:
        """Memory of an event's values, on average; 8 more for the offset of a jagged branch."""
        itemsize = np.dtype(self.dtype).itemsize
        if self.lengths is None:
            return float(itemsize * self.size)
        return itemsize * self.lengths.mean + 8.0

    def quantile(self, q: float) -> float:
        """The value below which the fraction ``q`` of the values lies, to sketch accuracy."""
        return quantile_of(self.sketch, q, self.weighted)

    def scaled(self, factor: float) -> BranchStatistics:
        """The same values, each with ``factor`` (above 0) times its weight."""
        squares = float(self.count) if self.sum_of_squares is None else self.sum_of_squares
        return self.model_copy(
            update={
                "m2": self.m2 * factor,
                "sketch": tuple((mean, weight * factor) for mean, weight in self.sketch),
                "sum_of_weights": self.weight * factor,
                "sum_of_squares": squares * factor**2,
            }
        )

    def merge(self, other: BranchStatistics) -> BranchStatistics:
        """The statistics of both sets of values together.

        Raises ValueError where they are of different branches, OverflowError where a moment
        becomes too large for float64.
        """
        if (self.dtype, self.kind, self.size) != (other.dtype, other.kind, other.size):
            raise ValueError(f"cannot merge {self.dtype} {self.kind} with {other.dtype}")
        if self.weighted != other.weighted:
            raise ValueError("cannot merge weighted with unweighted statistics")
        moments = self.moments.joined(other.moments)
        check_moments(moments, (self.maximum, other.maximum), (self.minimum, other.minimum))
        sketch = compressed(self.sketch + other.sketch)
        lengths = None
        if self.lengths and other.lengths:
            lengths = self.lengths.merge(other.lengths)
        return BranchStatistics(
            dtype=self.dtype,
            kind=self.kind,
            size=self.size,
            count=self.count + other.count,
            nan=self.nan + other.nan,
            positive_infinity=self.positive_infinity + other.positive_infinity,
            negative_infinity=self.negative_infinity + other.negative_infinity,
            minimum=min((v for v in (self.minimum, other.minimum) if v is not None), default=None),
            maximum=max((v for v in (self.maximum, other.maximum) if v is not None), default=None),
            mean=moments.mean,
            m2=moments.m2,
            quantiles=quantile_table(sketch, self.weighted),
            sketch=sketch,
            lengths=lengths,
            sum_of_weights=_sum(self.sum_of_weights, other.sum_of_weights),
            sum_of_squares=_sum(self.sum_of_squares, other.sum_of_squares),
        )


def check_moments(
    moments: Moments, highest: Sequence[float | None], lowest: Sequence[float | None]
) -> None:
    """Raise OverflowError where moments do not fit, naming the largest of these values."""
    if not (math.isfinite(moments.mean) and math.isfinite(moments.m2)):
        top = max(abs(value) for value in (*highest, *lowest) if value is not None)
        raise OverflowError(
            f"values up to {top:g} are too large: the sum of their squares does not fit into "
            f"float64. Exclude the branch, or leave such events out with a selection"
        )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
