"""Mergeable statistics of one branch: counts, range, moments, quantiles, lengths.

Moments merge by the pairwise formula of Chan, Golub and LeVeque (1979), weighted ones by that of
West (1979). Quantiles come from a t-digest (Dunning 2019, see `sketch`), whose centroids are kept
as plain numbers; lengths are counted exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.sketch import compressed, quantile_of, sketch_of
from hepdata_adapters.common.specs.sparse import Sparse


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

    >>> stats = summarize(Branch("x", "flat", "float64"), np.array([1.0, 3.0, np.nan]))
    >>> stats.count, stats.nan, stats.minimum, stats.maximum, stats.mean, stats.std
    (2, 1, 1.0, 3.0, 2.0, 1.0)
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
        # whole numbers where they count values: the unweighted moments keep their last bit
        ours, theirs = (self.count, other.count) if not self.weighted else (
            self.weight, other.weight)  # fmt: skip
        total = ours + theirs
        shift = other.mean - self.mean
        mean = self.mean + shift * theirs / total if total else 0.0
        between = shift * shift * ours * theirs / total if total else 0.0
        m2 = self.m2 + other.m2 + between
        _check_moments(mean, m2, (self.maximum, other.maximum), (self.minimum, other.minimum))
        sketch, table = compressed(tuple(sorted(self.sketch + other.sketch)), self.weighted)
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
            mean=mean,
            m2=m2,
            quantiles=table,
            sketch=sketch,
            lengths=lengths,
            sum_of_weights=_sum(self.sum_of_weights, other.sum_of_weights),
            sum_of_squares=_sum(self.sum_of_squares, other.sum_of_squares),
        )


def empty(branch: Branch, weighted: bool = False) -> BranchStatistics:
    """The statistics of no events."""
    column: Column = np.zeros(0, branch.dtype)
    if branch.kind == "jagged":
        column = Jagged(np.zeros(0, branch.dtype), np.zeros(1, np.int64))
    return summarize(branch, column, np.zeros(0) if weighted else None)


def summarize(
    branch: Branch, column: Column, weights: NDArray[np.float64] | None = None
) -> BranchStatistics:
    """Statistics of one column; NaN and infinities are counted and left out of the rest.

    weights: of the events, ``(n,)``, finite and at least 0; all values of an event have it.
    Raises OverflowError where the values are too large for moments in float64.
    """
    content = column.content if isinstance(column, Jagged) else column.reshape(-1)
    if weights is not None:
        repeats = column.lengths if isinstance(column, Jagged) else branch.size
        weights = np.repeat(weights, repeats)
    nan = positive = negative = 0
    values = content
    if content.dtype.kind == "f":
        finite = np.isfinite(content)
        if not finite.all():
            nan = int(np.isnan(content).sum())
            positive = int(np.isposinf(content).sum())
            negative = int(np.isneginf(content).sum())
            values = content[finite]
            weights = weights[finite] if weights is not None else None
    numbers = values.astype(np.float64)
    mean, m2 = _moments(numbers, weights)
    sketch, table = compressed(sketch_of(numbers, weights), weights is not None)
    lengths = None
    if isinstance(column, Jagged):
        found, events = np.unique(column.lengths, return_counts=True)
        lengths = Lengths(counts=dict(zip(found.tolist(), events.tolist(), strict=True)))
    kind: Literal["flat", "array", "jagged"] = (
        "jagged" if branch.kind == "jagged" else "array" if branch.kind == "array" else "flat"
    )
    return BranchStatistics(
        dtype=branch.dtype,
        kind=kind,
        size=branch.size,
        count=len(values),
        nan=nan,
        positive_infinity=positive,
        negative_infinity=negative,
        minimum=_plain(values.min()) if len(values) else None,
        maximum=_plain(values.max()) if len(values) else None,
        mean=mean,
        m2=m2,
        quantiles=table,
        sketch=sketch,
        lengths=lengths,
        sum_of_weights=None if weights is None else float(weights.sum()),
        sum_of_squares=None if weights is None else float(np.square(weights).sum()),
    )


def _moments(
    values: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[float, float]:
    """Mean, and sum of squared deviations from it; both 0 where nothing weighs anything."""
    if not len(values) or (weights is not None and not weights.any()):
        return 0.0, 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        if weights is None:
            mean = float(values.mean())
            m2 = float(np.square(values - mean).sum())
        else:
            mean = float(np.average(values, weights=weights))
            m2 = float((weights * np.square(values - mean)).sum())
    _check_moments(mean, m2, (values.max(),), (values.min(),))
    return mean, m2


def _check_moments(
    mean: float, m2: float, highest: Sequence[float | None], lowest: Sequence[float | None]
) -> None:
    if not (math.isfinite(mean) and math.isfinite(m2)):
        top = max(abs(value) for value in (*highest, *lowest) if value is not None)
        raise OverflowError(
            f"values up to {top:g} are too large: the sum of their squares does not fit into "
            f"float64. Exclude the branch, or leave such events out with a selection"
        )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _plain(value: np.generic) -> int | float:
    number = value.item()
    return int(number) if isinstance(number, bool) else number
