"""t-digests (Dunning 2019) as tuples of centroids: (mean, number or weight of values)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from fastdigest import TDigest
from numpy.typing import NDArray

from hepdata_adapters.common.specs.sketch_kernels import MIDDLE, TAIL, fewer

SKETCH_SIZE = 200  # centroids; measured on smooth distributions in 40 units: ranks to 0.03 %
QUANTILES = (0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99)

Sketch = tuple[tuple[float, float], ...]


def weighted_blocks(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and weights of blocks of sorted finite values ``(n,)``, finer than what they become.

    Blocks are equally heavy, and of one value in the tails. weights: ``(n,)``, at least 0; values
    of weight 0 are left out.
    """
    values, weights = values[weights > 0], weights[weights > 0]
    size = len(values)
    tail = min(TAIL, size)
    last = max(size - TAIL, tail)
    below = np.concatenate(([0.0], np.cumsum(weights)))
    steps = np.linspace(below[tail], below[last], MIDDLE + 1)
    inner = np.clip(np.searchsorted(below, steps), tail, last)
    edges = np.unique(np.concatenate((np.arange(tail), inner, np.arange(last, size))))
    edges = edges[edges < size]
    if not len(edges):
        return values, weights
    heavy = np.add.reduceat(weights, edges)
    means = np.add.reduceat(values * weights, edges) / heavy
    # the mean of equal values is that value, whatever the rounding
    return np.clip(means, values[edges], values[np.append(edges[1:], size) - 1]), heavy


def compressed(sketch: Sketch) -> Sketch:
    """A sketch of at most `SKETCH_SIZE` centroids, from those of one or several sketches.

    Not `TDigest.merge`: it orders equal means by chance, so the same data gave other bytes.

    >>> compressed(((3.0, 1.0), (1.0, 1.0)))
    ((1.0, 1.0), (3.0, 1.0))
    """
    if not sketch:
        return ()
    means, weights = np.array(sorted(sketch)).T.copy()
    used = fewer(means, weights, len(means), SKETCH_SIZE, means, weights)
    return tuple(zip(means[:used].tolist(), weights[:used].tolist(), strict=True))


def quantile_table(sketch: Sketch, weighted: bool = False) -> dict[str, float]:
    """The quantiles that people look at; none without values."""
    if not sketch:
        return {}
    digest = _digest(sketch, _scale(sketch) if weighted else 1.0)
    return {f"{q:g}": _quantile(digest, q) for q in QUANTILES}


def quantile_of(sketch: Sketch, q: float, weighted: bool = False) -> float:
    """The value below which the fraction ``q`` lies, to sketch accuracy; 0 without values."""
    return _quantile(_digest(sketch, _scale(sketch) if weighted else 1.0), q)


def _quantile(digest: Any, q: float) -> float:
    return 0.0 if digest.is_empty() else float(digest.quantile(q))


def _digest(sketch: Sketch, scale: float) -> Any:
    centroids = [{"m": mean, "c": count * scale} for mean, count in sketch]
    return TDigest.from_dict({"max_centroids": SKETCH_SIZE, "centroids": centroids})


def _scale(sketch: Sketch) -> float:
    """A power of two that makes the total weight about 2^40.

    The digest takes a weight below 1 for a whole value. Powers of two are divided out exactly.
    """
    total = math.fsum(weight for _, weight in sketch)
    return 2.0 ** (40 - math.frexp(total)[1]) if total else 1.0
