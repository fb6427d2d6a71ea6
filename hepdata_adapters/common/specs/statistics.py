"""Mergeable statistics of one branch: counts, range, moments, quantiles, lengths.

Moments merge by the pairwise formula of Chan, Golub and LeVeque (1979). Quantiles come from a
t-digest (Dunning 2019), whose centroids are kept as plain numbers; lengths are counted exactly.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastdigest import TDigest
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hepdata_adapters.common.columns import Column, Jagged
from hepdata_adapters.common.schema import Branch

SKETCH_SIZE = 200  # centroids; measured on merged normal samples: rank error below 0.1 %
QUANTILES = (0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99)


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


class BranchStatistics(BaseModel):
    """Statistics of the finite values of a branch over the training split.

    count: finite values. m2: sum of squared deviations from the mean. sketch: centroids of the
    t-digest (mean, number of values). quantiles: a table for people, the sketch has the rest.

    >>> stats = summarize(Branch("x", "flat", "float64"), np.array([1.0, 3.0, np.nan]))
    >>> stats.count, stats.nan, stats.minimum, stats.maximum, stats.mean, stats.std
    (2, 1, 1.0, 3.0, 2.0, 1.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    quantiles: dict[str, float] = {}
    sketch: tuple[tuple[float, Annotated[float, Field(gt=0)]], ...] = ()
    lengths: Lengths | None = None

    @property
    def std(self) -> float:
        """Standard deviation of the values (divided by their number)."""
        return float(np.sqrt(self.m2 / self.count)) if self.count else 0.0

    @property
    def mean_bytes(self) -> float:
        """Memory of an event's values, on average; 8 more for the offset of a jagged branch."""
        itemsize = np.dtype(self.dtype).itemsize
        if self.lengths is None:
            return float(itemsize * self.size)
        return itemsize * self.lengths.mean + 8.0

    def quantile(self, q: float) -> float:
        """The value below which the fraction ``q`` of the values lies, to sketch accuracy."""
        return _quantile(_digest(self.sketch), q) if self.count else 0.0

    def merge(self, other: BranchStatistics) -> BranchStatistics:
        """The statistics of both sets of values together."""
        if (self.dtype, self.kind, self.size) != (other.dtype, other.kind, other.size):
            raise ValueError(f"cannot merge {self.dtype} {self.kind} with {other.dtype}")
        count = self.count + other.count
        shift = other.mean - self.mean
        # not TDigest.merge: it orders equal means by chance, so the same data gave other bytes
        digest = _digest(tuple(sorted(self.sketch + other.sketch)))
        lengths = None
        if self.lengths and other.lengths:
            lengths = self.lengths.merge(other.lengths)
        return BranchStatistics(
            dtype=self.dtype,
            kind=self.kind,
            size=self.size,
            count=count,
            nan=self.nan + other.nan,
            positive_infinity=self.positive_infinity + other.positive_infinity,
            negative_infinity=self.negative_infinity + other.negative_infinity,
            minimum=min((v for v in (self.minimum, other.minimum) if v is not None), default=None),
            maximum=max((v for v in (self.maximum, other.maximum) if v is not None), default=None),
            mean=self.mean + shift * other.count / count if count else 0.0,
            m2=self.m2 + other.m2 + shift**2 * self.count * other.count / max(count, 1),
            quantiles=_table(digest),
            sketch=_centroids(digest),
            lengths=lengths,
        )


def summarize(branch: Branch, column: Column) -> BranchStatistics:
    """Statistics of one column; NaN and infinities are counted and left out of the rest."""
    content = column.content if isinstance(column, Jagged) else column.reshape(-1)
    nan = positive = negative = 0
    values = content
    if content.dtype.kind == "f":
        finite = np.isfinite(content)
        if not finite.all():
            nan = int(np.isnan(content).sum())
            positive = int(np.isposinf(content).sum())
            negative = int(np.isneginf(content).sum())
            values = content[finite]
    digest = TDigest(max_centroids=SKETCH_SIZE)
    mean = m2 = 0.0
    if len(values):
        numbers = values.astype(np.float64)
        digest = _sketch(numbers)
        mean = float(numbers.mean())
        m2 = float(np.square(numbers - mean).sum())
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
        quantiles=_table(digest),
        sketch=_centroids(digest),
        lengths=lengths,
    )


def _plain(value: np.generic) -> int | float:
    number = value.item()
    return int(number) if isinstance(number, bool) else number


def _sketch(values: NDArray[np.float64], tail: int = 50, middle: int = 300) -> Any:
    """The t-digest of values; numpy's sort and sums do most of the work.

    Single values in the tails and means of equally many values between them are finer than
    the centroids they become; from 10,000 values on this is 2 to 6 times as fast as handing
    over every value.
    """
    ordered = np.sort(values)
    inner = np.linspace(tail, max(len(values) - tail, tail), middle + 1).astype(np.int64)
    outer = np.arange(max(len(values) - tail, tail), len(values))
    edges = np.unique(np.concatenate((np.arange(min(tail, len(values))), inner, outer)))
    edges = edges[edges < len(values)]
    counts = np.diff(np.append(edges, len(values)))
    means = np.add.reduceat(ordered, edges) / counts
    return _digest(tuple(zip(means.tolist(), counts.tolist(), strict=True)))


def _digest(sketch: tuple[tuple[float, float], ...]) -> Any:
    centroids = [{"m": mean, "c": count} for mean, count in sketch]
    return TDigest.from_dict({"max_centroids": SKETCH_SIZE, "centroids": centroids})


def _centroids(digest: Any) -> tuple[tuple[float, float], ...]:
    return tuple((entry["m"], entry["c"]) for entry in digest.to_dict()["centroids"])


def _quantile(digest: Any, q: float) -> float:
    return float(digest.quantile(q))


def _table(digest: Any) -> dict[str, float]:
    if digest.is_empty():
        return {}
    return {f"{q:g}": _quantile(digest, q) for q in QUANTILES}
