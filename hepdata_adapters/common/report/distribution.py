"""A histogram by group and the moments of its values, filled chunk by chunk."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.errors import MissingExtraError
from hepdata_adapters.common.report.binning import Binning


class Distribution:
    """The values of one quantity: bins by group, number, moments and range.

    Values are never kept. binning: None for moments alone.

    >>> found = Distribution(Binning(np.array([0.0, 1.0, 2.0])), groups=2)
    >>> found.fill(np.array([0.5, 1.5, 1.5, 7.0]), np.array([0, 0, 1, 1]), np.ones(4))
    >>> found.heights().tolist(), found.outside(), found.mean
    ([[0.5, 0.5], [0.0, 0.5]], (0.0, 0.25), 2.625)
    """

    def __init__(self, binning: Binning | None, groups: int) -> None:
        self.binning = binning
        self.count, self.minimum, self.maximum = 0, math.inf, -math.inf
        self._weight = self._mean = self._m2 = 0.0
        self._counts: Any = _histogram(binning, groups) if binning else None

    def fill(
        self, values: NDArray[Any], group: NDArray[np.int64], weight: NDArray[np.float64]
    ) -> None:
        """Add values ``(m,)``, finite, of these groups and weights (at least 0), ``(m,)`` each."""
        if not len(values):
            return
        numbers = values.astype(np.float64)
        self.count += len(numbers)
        self.minimum = min(self.minimum, float(numbers.min()))
        self.maximum = max(self.maximum, float(numbers.max()))
        self._add_moments(numbers, weight)
        if self._counts is not None:
            self._counts.fill(numbers, group, weight=weight)

    @property
    def mean(self) -> float:
        return self._mean

    @property
    def std(self) -> float:
        return math.sqrt(self._m2 / self._weight) if self._weight else 0.0

    def heights(self) -> NDArray[np.float64]:
        """The share of each bin in the values of its group, ``(groups, bins)``.

        They add up to 1 less what lies outside; all are 0 in a group without values.
        """
        whole = self._whole()
        totals = whole.sum(axis=0)
        found: NDArray[np.float64] = (whole / np.where(totals > 0, totals, 1.0))[1:-1].T
        return found

    def outside(self) -> tuple[float, float]:
        """The shares of all values that lie below and above the bins."""
        sums = self._whole().sum(axis=1)
        total = sums.sum() or 1.0
        return float(sums[0] / total), float(sums[-1] / total)

    def _whole(self) -> NDArray[np.float64]:
        """``(bins + 2, groups)``: what lies below first, what lies above last."""
        return np.asarray(self._counts.values(flow=True), np.float64)

    def _add_moments(self, values: NDArray[np.float64], weight: NDArray[np.float64]) -> None:
        # pairwise merging, as in specs.statistics
        added = float(weight.sum())
        if not added:
            return
        mean = float(np.average(values, weights=weight))
        m2 = float((weight * np.square(values - mean)).sum())
        total = self._weight + added
        shift = mean - self._mean
        self._m2 += m2 + shift * shift * self._weight * added / total
        self._mean += shift * added / total
        self._weight = total


def _histogram(binning: Binning, groups: int) -> Any:
    try:
        import hist
    except ImportError as error:
        raise MissingExtraError(error.name or "hist", "plots") from None
    return hist.Hist(
        hist.axis.Variable(binning.edges.tolist()),
        hist.axis.Integer(0, groups, flow=False),
        storage=hist.storage.Double(),
    )
