"""Kernels of the sketch: sorted values to centroids and moments, centroids to fewer of them.

Centroids are two arrays, ascending means and their numbers (or weights) of values. They become
fewer by the merging t-digest of Dunning and Ertl (2019): one walk that joins neighbours up to a
limit of weight, small in the tails. The limit of the k-th of ``size`` centroids is where the
fraction ``2 (k / size)^2`` of the weight lies, mirrored above one half: the quadratic scale
function of Facebook's folly, which never makes more than ``size``.

Moments of sorted values are found block by block, each in two passes about its own mean and from
a value in their middle (Chan, Golub and LeVeque 1983, "shifted" and "two-pass"); the blocks join
as groups do: deviations inside them plus those between their means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.compiled import compiled

Floats = NDArray[np.float64]

TAIL = 50
"""Values at each end that are centroids of their own, while blocks of the others are made."""
MIDDLE = 300
"""Blocks of equally many values between the tails."""


@compiled
def fewer(
    means: Floats, weights: Floats, count: int, size: int, new_means: Floats, new_weights: Floats
) -> int:
    """Join the first ``count`` centroids to at most ``size``, in ``new_means`` and ``new_weights``.

    Returns how many there are. The new arrays may be the old ones.
    """
    if count <= size:  # there is room for each
        new_means[:count], new_weights[:count] = means[:count], weights[:count]
        return count
    total = 0.0
    for number in range(count):
        total += weights[number]
    made, limit = 0, 2.0 / (size * size) * total
    mean, weight = means[0], weights[0]
    below = weight
    for number in range(1, count):
        other, more = means[number], weights[number]
        below += more
        if below <= limit or made == size - 1:
            weight += more
            # between both, whatever the rounding
            mean = min(mean + (other - mean) * (more / weight), other)
            continue
        new_means[made], new_weights[made] = mean, weight
        made += 1
        mean, weight = other, more
        part = (made + 1) / size
        limit = total * (2 * part * part if part < 0.5 else 1 - 2 * (1 - part) * (1 - part))
    new_means[made], new_weights[made] = mean, weight
    return made + 1


@compiled
def joined(
    means: Floats, weights: Floats, count: int,
    other_means: Floats, other_weights: Floats, more: int,
    new_means: Floats, new_weights: Floats,
) -> None:  # fmt: skip
    """The first ``count`` and ``more`` centroids of both in one order; of equal ones ours first."""
    ours = theirs = 0
    for number in range(count + more):
        if theirs == more or (ours < count and means[ours] <= other_means[theirs]):
            new_means[number], new_weights[number] = means[ours], weights[ours]
            ours += 1
        else:
            new_means[number], new_weights[number] = other_means[theirs], other_weights[theirs]
            theirs += 1


@compiled
def finite_range(values: NDArray[Any]) -> tuple[int, int, int]:
    """Where the finite of sorted numbers begin and end, and where NaN, which are last, begin."""
    first, last = 0, len(values)
    while last > 0 and np.isnan(values[last - 1]):
        last -= 1
    missing = last
    while last > 0 and values[last - 1] == np.inf:
        last -= 1
    while first < last and values[first] == -np.inf:
        first += 1
    return first, last, missing


@compiled
def _sum(values: NDArray[Any], first: int, last: int, middle: float) -> float:
    """The sum of deviations; four sums at a time, as the next addition waits for the one before."""
    a = b = c = d = 0.0
    place = first
    while place + 4 <= last:
        a += values[place] - middle
        b += values[place + 1] - middle
        c += values[place + 2] - middle
        d += values[place + 3] - middle
        place += 4
    while place < last:
        a += values[place] - middle
        place += 1
    return (a + b) + (c + d)


@compiled
def _squares(values: NDArray[Any], first: int, last: int, middle: float, shift: float) -> float:
    """The sum of squared deviations from ``middle + shift``."""
    a = b = c = d = 0.0
    place = first
    while place + 4 <= last:
        one = (values[place] - middle) - shift
        two = (values[place + 1] - middle) - shift
        three = (values[place + 2] - middle) - shift
        four = (values[place + 3] - middle) - shift
        a += one * one
        b += two * two
        c += three * three
        d += four * four
        place += 4
    while place < last:
        one = (values[place] - middle) - shift
        a += one * one
        place += 1
    return (a + b) + (c + d)


@compiled
def add_sorted(
    values: NDArray[Any], means: Floats, counts: Floats, used: int
) -> tuple[int, float, float]:
    """Add sorted finite values, ``(n,)`` floats and n > 0, to the first ``used`` centroids.

    Returns how many there are then, at most as many as there is room for, and of the new values
    the mean and the sum of squared deviations from it.
    """
    size = len(values)
    tail = min(TAIL, size)
    last = max(size - TAIL, tail)
    most = 2 * TAIL + MIDDLE
    block_means, block_counts = np.empty(most), np.empty(most)
    shifts, squares = np.empty(most), np.empty(most)
    middle = np.float64(values[size // 2])
    made = start = block = 0
    total = lost = 0.0
    while start < size:
        if start < tail or start >= last:
            stop = start + 1
        else:
            stop = start
            while stop == start:  # there may be more blocks than values
                block += 1
                stop = tail + (last - tail) * block // MIDDLE
        found = _sum(values, start, stop, middle)
        number = stop - start
        shift = found / number
        low, high = np.float64(values[start]), np.float64(values[stop - 1])
        # equal values stay that value; + 0.0 makes one zero of both
        block_means[made] = min(max(middle + shift, low), high) + 0.0
        block_counts[made] = number
        shifts[made] = shift
        squares[made] = _squares(values, start, stop, middle, shift)
        # Neumaier (1974): nothing is lost where blocks of both signs cancel
        new = total + found
        lost += (total - new) + found if abs(total) >= abs(found) else (found - new) + total
        total = new
        made += 1
        start = stop
    mean = (total + lost) / size
    deviations = 0.0
    for number in range(made):
        between = shifts[number] - mean
        deviations += squares[number] + block_counts[number] * (between * between)
    every_mean, every_count = np.empty(used + made), np.empty(used + made)
    joined(means, counts, used, block_means, block_counts, made, every_mean, every_count)
    used = fewer(every_mean, every_count, used + made, len(means), means, counts)
    return used, middle + mean, deviations
