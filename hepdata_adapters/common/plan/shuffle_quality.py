"""How good a shuffle is, and what it costs in reads. Pure: numbers in, numbers out.

Both measures of quality are ratios to a full shuffle of all events, which has 1:

*Class spread.* A batch of n out of N shuffled events holds a number of events of each class that
follows the hypergeometric distribution. The measure is the mean over all batches of chi-square
over its expectation. Above 1 the batches differ more than chance allows: some see too much of
one class. Below 1 they differ less, as they do where each chunk holds its exact share of a class.

*Neighbour distance.* Two events of one file that follow each other in a batch lie (N + 1)/3
entries apart on average, if all N of that file are shuffled. The measure is the mean over all
such pairs of their distance over the expected one. Near 0 neighbours of the file stay neighbours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.plan.plan import Chunk, Plan
from hepdata_adapters.common.plan.shard import Shard


def class_spread(batches: Iterable[NDArray[Any]], totals: Sequence[int]) -> float:
    """Chi-square of the classes in each batch over its expectation; 1 = full shuffle.

    batches: for each the classes of its events, ``(n,)`` integers from 0. totals: events of each
    class in the epoch. NaN if no batch could have been another: of one class, or one batch only.

    >>> class_spread([np.array([0, 0]), np.array([1, 1])], [2, 2])  # sorted: as bad as can be
    3.0
    >>> class_spread([np.array([0, 1]), np.array([1, 0])], [2, 2])  # exact shares
    0.0
    """
    share = np.asarray(totals, np.float64) / max(sum(totals), 1)
    present = share > 0
    events, freedom = sum(totals), int(present.sum()) - 1
    ratios = []
    for classes in batches:
        n = len(classes)
        if freedom < 1 or n in (0, events):
            continue
        expected = n * share[present]
        found = np.bincount(classes, minlength=len(totals))[present]
        chi_square = float(((found - expected) ** 2 / expected).sum())
        ratios.append(chi_square / freedom * (events - 1) / (events - n))
    return float(np.mean(ratios)) if ratios else float("nan")


def neighbour_distance(batches: Iterable[NDArray[np.int64]], sizes: Sequence[int]) -> float:
    """Distance in its file of events that follow each other in a batch; 1 = full shuffle.

    batches: for each the file and entry of its events, ``(n, 2)``; rows of padding (file -1) do
    not count. sizes: entries of each file. NaN if no two events of a file are in one batch.

    >>> rows = np.array([[0, 0], [0, 1], [0, 2], [0, 3]])
    >>> neighbour_distance([rows], [8])  # in order: distance 1, 3 expected
    0.3333333333333333
    """
    total, pairs = 0.0, 0
    for events in batches:
        for file in np.unique(events[events[:, 0] >= 0, 0]).tolist():
            entries = events[events[:, 0] == file, 1]
            steps = np.abs(np.diff(entries))
            total += float(steps.sum()) * 3 / (sizes[file] + 1)
            pairs += len(steps)
    return total / pairs if pairs else float("nan")


class UnitReads(NamedTuple):
    """units: how many hold events of the epoch. reads: how often one was read and decompressed."""

    units: int
    reads: int

    @property
    def again(self) -> float:
        """Reads beyond the first of each unit, as a share of all units.

        >>> UnitReads(units=100, reads=103).again
        0.03
        """
        return (self.reads - self.units) / self.units if self.units else 0.0


def unit_reads(
    plan: Plan, ranks: int = 1, workers: int = 1, cached: int | None = None
) -> UnitReads:
    """How often the units are read in one epoch by ``ranks`` x ``workers`` processes.

    cached: units that each process keeps in memory, those used last; None keeps all.
    """
    caches: dict[tuple[int, int], OrderedDict[tuple[int, int], None]] = {}
    present: dict[tuple[int, int, int], Chunk] = {}
    units: set[tuple[int, int]] = set()
    reads = 0
    for batch in range(plan.batches):
        for rank in range(ranks):
            process = rank, batch % workers
            cache = caches.setdefault(process, OrderedDict())
            share = Shard(rank, ranks).share(batch, plan.rows(batch))
            for piece in plan.locate(batch, share.first, share.last):
                if present.get((*process, piece.stream)) == piece.chunk:
                    continue
                present[(*process, piece.stream)] = piece.chunk
                for part in plan.parts(piece.chunk):
                    unit = part.file, part.unit
                    units.add(unit)
                    reads += unit not in cache
                    cache[unit] = None
                    cache.move_to_end(unit)
                    if cached is not None and len(cache) > cached:
                        cache.popitem(last=False)
    return UnitReads(len(units), reads)
