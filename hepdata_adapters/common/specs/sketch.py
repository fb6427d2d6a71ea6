"""t-digests (Dunning 2019) as tuples of centroids: (mean, number or weight of values)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from fastdigest import TDigest
from numpy.typing import NDArray

SKETCH_SIZE = 200  # centroids; measured on merged normal samples: rank error below 0.1 %
QUANTILES = (0.01, 0.05, 0.16, 0.25, 0.5, 0.75, 0.84, 0.95, 0.99)

Sketch = tuple[tuple[float, float], ...]


def sketch_of(
    values: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    tail: int = 50,
    middle: int = 300,
) -> Sketch:
    """Fine centroids of finite values ``(n,)``, for `compressed`; numpy does most of the work.

    Single values in the tails and means of equally many (or equally heavy) values between them
    are finer than the centroids they become; from 10,000 values on this is 2 to 6 times as fast
    as handing over every value. weights: ``(n,)``, at least 0; values of weight 0 are left out.
    """
    if weights is None:
        ordered = np.sort(values)
        last = max(len(values) - tail, tail)
        inner = np.linspace(tail, last, middle + 1).astype(np.int64)
    else:
        values, weights = values[weights > 0], weights[weights > 0]
        order = np.argsort(values, kind="stable")
        ordered, weights = values[order], weights[order]
        last = max(len(values) - tail, tail)
        below = np.concatenate(([0.0], np.cumsum(weights)))
        ends = below[min(tail, len(values))], below[min(last, len(values))]
        inner = np.clip(np.searchsorted(below, np.linspace(*ends, middle + 1)), tail, last)
    outer = np.arange(last, len(values))
    edges = np.unique(np.concatenate((np.arange(min(tail, len(values))), inner, outer)))
    edges = edges[edges < len(values)]
    if not len(edges):
        return ()
    if weights is None:
        counts = np.diff(np.append(edges, len(values)))
        means = np.add.reduceat(ordered, edges) / counts
    else:
        counts = np.add.reduceat(weights, edges)
        means = np.add.reduceat(ordered * weights, edges) / counts
    return tuple(zip(means.tolist(), counts.tolist(), strict=True))


def compressed(sketch: Sketch, weighted: bool = False) -> tuple[Sketch, dict[str, float]]:
    """A sketch of at most `SKETCH_SIZE` centroids, and the quantiles that people look at.

    Not `TDigest.merge`: it orders equal means by chance, so the same data gave other bytes.
    weighted: the second numbers are weights; they need not be at least 1.

    >>> compressed(((1.0, 1.0), (3.0, 1.0)))[0]
    ((1.0, 1.0), (3.0, 1.0))
    """
    if not sketch:
        return (), {}
    scale = _scale(sketch) if weighted else 1.0
    digest = _digest(sketch, scale)
    table = {f"{q:g}": _quantile(digest, q) for q in QUANTILES}
    centroids = digest.to_dict()["centroids"]
    return tuple((entry["m"], entry["c"] / scale) for entry in centroids), table


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
