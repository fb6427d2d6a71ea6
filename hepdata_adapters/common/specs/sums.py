"""Statistics of a branch while a part is read: unit by unit, mostly without the interpreter's lock.

The values of the events are gathered, sorted, and summed in blocks, see `sketch_kernels`; units
join as everything else does, see `statistics`.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Array, Column, Jagged
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.sketch import SKETCH_SIZE, quantile_table, weighted_blocks
from hepdata_adapters.common.specs.sketch_kernels import add_sorted, fewer, finite_range, joined
from hepdata_adapters.common.specs.statistics import (
    BranchStatistics,
    Lengths,
    Moments,
    check_moments,
)
from hepdata_adapters.common.specs.value_kernels import copied

FINE = 800
"""Centroids while a part is read, four times as many as in the end: joining units costs next to
no accuracy. 13 kB a branch and class."""

SHORT = 2**16  # lengths that are counted in a table
KEPT = 2**21  # words of 8 bytes that a thread keeps for the next branch

Places = NDArray[np.int64]


class Events:
    """Which events of a unit are summed, ``(n,)`` ascending rows, and with which weights.

    What branches of the same offsets have in common is found once.
    """

    def __init__(self, rows: Places, weights: NDArray[np.float64] | None = None) -> None:
        self.rows, self.weights = rows, weights
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        self._starts = rows[np.concatenate(([0], edges))] if len(rows) else rows
        self._stops = rows[np.append(edges - 1, len(rows) - 1)] + 1 if len(rows) else rows
        self._lengths: dict[int, dict[int, int]] = {}
        self._stretches: dict[int, tuple[Places, Places, int]] = {}
        self._kept: list[Places] = []  # an id is that of one object as long as this exists

    def stretches(self, column: Column) -> tuple[Places, Places, int]:
        """Where their values begin and end in the content, and how many there are."""
        if not isinstance(column, Jagged):
            size = column.size // max(len(column), 1)
            return self._starts * size, self._stops * size, len(self.rows) * size
        name = id(column.offsets)
        if name not in self._stretches:
            starts, stops = column.offsets[self._starts], column.offsets[self._stops]
            self._kept.append(column.offsets)
            self._stretches[name] = starts, stops, int((stops - starts).sum())
        return self._stretches[name]

    def lengths(self, column: Jagged) -> dict[int, int]:
        """How many of them have how many values."""
        name = id(column.offsets)
        if name not in self._lengths:
            lengths = column.lengths[self.rows]
            if lengths.max(initial=0) < SHORT:
                counts = np.bincount(lengths)
                different = np.flatnonzero(counts)
                counts = counts[different]
            else:  # no table as long as an event of a million hits
                different, counts = np.unique(lengths, return_counts=True)
            self._kept.append(column.offsets)
            self._lengths[name] = dict(zip(different.tolist(), counts.tolist(), strict=True))
        return self._lengths[name]


class BranchSums:
    """Statistics of a branch that grow, event by event of those that are added.

    >>> sums = BranchSums(Branch("x", "flat", "float64"))
    >>> sums.add(np.array([1.0, 3.0, np.nan, 9.0]), Events(np.array([0, 1, 2])))
    2
    >>> sums.statistics().count, sums.statistics().nan, sums.statistics().mean
    (2, 1, 2.0)
    """

    def __init__(self, branch: Branch, weighted: bool = False) -> None:
        self.branch, self._weighted = branch, weighted
        self._count = self._nan = self._positive = self._negative = 0
        self._minimum: int | float | None = None
        self._maximum: int | float | None = None
        self._moments = Moments()
        self._squares = 0.0
        self._lengths: Counter[int] = Counter()
        self._means, self._weights = np.empty(FINE), np.empty(FINE)
        self._used = 0

    def add(self, column: Column, events: Events) -> int:
        """Add the values of some events; returns how many finite values there are now.

        Raises OverflowError where moments do not fit.
        """
        if isinstance(column, Jagged):
            self._lengths.update(events.lengths(column))
        values = _gathered(column, events)
        if events.weights is not None:
            repeats: Any = column.lengths[events.rows] if isinstance(column, Jagged) else (
                self.branch.size)  # fmt: skip
            self._add_weighted(values, np.repeat(events.weights, repeats))
            return self._count
        values.sort()
        if values.dtype.kind == "f":
            first, last, missing = finite_range(values)
            self._count_missing(len(values) - missing, missing - last, first)
            values = values[first:last]
        if not len(values):
            return self._count
        self._range(values)
        self._used, mean, m2 = add_sorted(_floats(values), self._means, self._weights, self._used)
        self._join(Moments(float(len(values)), mean, m2))
        return self._count

    def statistics(self) -> BranchStatistics:
        """Those of all that was added."""
        branch = self.branch
        means, weights = np.empty(SKETCH_SIZE), np.empty(SKETCH_SIZE)
        used = fewer(self._means, self._weights, self._used, SKETCH_SIZE, means, weights)
        sketch = tuple(zip(means[:used].tolist(), weights[:used].tolist(), strict=True))
        kind: Literal["flat", "array", "jagged"] = (
            "jagged" if branch.kind == "jagged" else "array" if branch.kind == "array" else "flat"
        )
        lengths = Lengths(counts=dict(sorted(self._lengths.items())))
        return BranchStatistics(
            dtype=branch.dtype,
            kind=kind,
            size=branch.size,
            count=self._count,
            nan=self._nan,
            positive_infinity=self._positive,
            negative_infinity=self._negative,
            minimum=self._minimum,
            maximum=self._maximum,
            mean=self._moments.mean,
            m2=self._moments.m2,
            quantiles=quantile_table(sketch, self._weighted),
            sketch=sketch,
            lengths=lengths if kind == "jagged" else None,
            sum_of_weights=self._moments.weight if self._weighted else None,
            sum_of_squares=self._squares if self._weighted else None,
        )

    def _add_weighted(self, values: Array, weights: NDArray[np.float64]) -> None:
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                missing = values[~finite]
                positive, negative = (int((missing == sign * np.inf).sum()) for sign in (1, -1))
                self._count_missing(len(missing) - positive - negative, positive, negative)
                values, weights = values[finite], weights[finite]
        if not len(values):
            return
        order = np.argsort(values, kind="stable")  # the same on every machine
        values, weights = values[order], weights[order]
        self._range(values)
        numbers = values.astype(np.float64)
        moments = Moments.of_weighted(numbers, weights)
        means, heavy = weighted_blocks(numbers, weights)
        count = self._used + len(means)
        every = np.empty(count), np.empty(count)
        joined(self._means, self._weights, self._used, means, heavy, len(means), *every)
        self._used = fewer(*every, count, FINE, self._means, self._weights)
        self._squares += float(np.square(weights).sum())
        self._join(moments)

    def _count_missing(self, nan: int, positive: int, negative: int) -> None:
        self._nan += nan
        self._positive += positive
        self._negative += negative

    def _range(self, ordered: Array) -> None:
        """Count values, and note the first and the last of them."""
        self._count += len(ordered)
        low, high = ordered[0].item() + 0, ordered[-1].item() + 0  # -0.0 + 0 is 0.0
        self._minimum = low if self._minimum is None else min(self._minimum, low)
        self._maximum = high if self._maximum is None else max(self._maximum, high)

    def _join(self, more: Moments) -> None:
        self._moments = self._moments.joined(more)
        check_moments(self._moments, (self._maximum,), (self._minimum,))


def summarize(
    branch: Branch, column: Column, weights: NDArray[np.float64] | None = None
) -> BranchStatistics:
    """Statistics of one column; NaN and infinities are counted and left out of the rest.

    weights: of the events, ``(n,)``, finite and at least 0; all values of an event have it.
    Raises OverflowError where the values are too large for moments in float64.

    >>> stats = summarize(Branch("x", "flat", "float64"), np.array([1.0, 3.0, np.nan]))
    >>> stats.count, stats.nan, stats.minimum, stats.maximum, stats.mean, stats.std
    (2, 1, 1.0, 3.0, 2.0, 1.0)
    """
    sums = BranchSums(branch, weighted=weights is not None)
    sums.add(column, Events(np.arange(len(column)), weights))
    return sums.statistics()


def empty(branch: Branch, weighted: bool = False) -> BranchStatistics:
    """The statistics of no events."""
    return BranchSums(branch, weighted).statistics()


class _Scratch(threading.local):
    """Room for values, for each thread its own: memory that is new costs more than to fill it."""

    def __init__(self) -> None:
        self._words = np.empty(0, np.uint64)

    def room(self, size: int, dtype: np.dtype[Any]) -> Array:
        words = -(-size * dtype.itemsize // 8)
        found = self._words
        if words > len(found):
            found = np.empty(words, np.uint64)
            if words <= KEPT:
                self._words = found
        return found.view(dtype)[:size]


_scratch = _Scratch()


def _gathered(column: Column, events: Events) -> Array:
    """The values of the events, ``(values,)`` of a dtype that sorts fast; until the next call."""
    content = np.ascontiguousarray(column.content if isinstance(column, Jagged) else column)
    starts, stops, size = events.stretches(column)
    width = np.dtype(f"u{content.dtype.itemsize}")
    out = _scratch.room(size, width)
    copied(content.reshape(-1).view(width), starts, stops, out)
    values = out.view(content.dtype)
    if width.itemsize == 1:
        return values.astype(np.int16)
    return values.astype(np.float32) if content.dtype == np.float16 else values


def _floats(values: Array) -> Array:
    """As float32 or float64, in which the kernels sum."""
    return values if values.dtype.kind == "f" else values.astype(np.float64)
