"""Linear correlation of columns with holes, one pass, chunk by chunk."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


class Pair(NamedTuple):
    """Two columns by their numbers, and their correlation."""

    first: int
    second: int
    r: float


class Correlation:
    """Pearson's r of each pair of d columns, over the events in which both are real.

    The memory is that of six ``(d, d)`` matrices, whatever the number of events. Sums are of
    distances from the first real value of each column, so that columns far from 0 keep digits.

    >>> found = Correlation(2)
    >>> found.add(np.array([[1.0, 2.0], [2.0, 4.5], [3.0, 5.5], [9.0, 0.0]]),
    ...           np.array([[True, True]] * 3 + [[True, False]]), np.ones(4))
    >>> float(found.matrix()[0, 1].round(4)), float(found.events[0, 1])
    (0.9707, 3.0)
    """

    def __init__(self, columns: int) -> None:
        shape = (columns, columns)
        self.events = np.zeros(shape)
        self._shift = np.full(columns, np.nan)
        self._weight, self._first = np.zeros(shape), np.zeros(shape)
        self._square, self._product = np.zeros(shape), np.zeros(shape)

    def add(self, values: Matrix, real: NDArray[np.bool_], weights: NDArray[np.float64]) -> None:
        """Add n events. values, real: ``(n, d)``; weights: ``(n,)``, at least 0."""
        for column in np.flatnonzero(np.isnan(self._shift) & real.any(axis=0)):
            self._shift[column] = values[np.argmax(real[:, column]), column]
        shifted = np.where(real, values - self._shift, 0.0)
        counted = real.astype(np.float64)
        weighted = counted * weights[:, np.newaxis]
        self.events += counted.T @ counted
        self._weight += weighted.T @ counted
        # row i, column j: sums of column i over the events in which j is real, too
        self._first += (shifted * weights[:, np.newaxis]).T @ counted
        self._square += (shifted**2 * weights[:, np.newaxis]).T @ counted
        self._product += (shifted * weights[:, np.newaxis]).T @ shifted

    def matrix(self) -> Matrix:
        """R of each pair, ``(d, d)``; NaN where one of them does not vary."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._first / self._weight
            variance = self._square / self._weight - mean**2
            # what rounding leaves of a constant column is no spread
            variance[variance <= 1e-12 * self._square / self._weight] = np.nan
            covariance = self._product / self._weight - mean * mean.T
            found: Matrix = covariance / np.sqrt(variance * variance.T)
        return np.clip(found, -1.0, 1.0)


def largest(matrix: Matrix, count: int) -> list[Pair]:
    """The pairs of different columns whose r is largest in absolute value, falling.

    >>> largest(np.array([[1, 0.2, -0.9], [0.2, 1, 0.5], [-0.9, 0.5, 1]]), 1)
    [Pair(first=0, second=2, r=-0.9)]
    """
    rows, columns = np.triu_indices(len(matrix), k=1)
    r = matrix[rows, columns]
    order = [i for i in np.argsort(-np.abs(r), kind="stable").tolist() if not np.isnan(r[i])]
    return [Pair(int(rows[i]), int(columns[i]), float(r[i])) for i in order[:count]]
