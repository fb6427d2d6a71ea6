"""Counts of many events for the ledger, added up in arrays: a line at a time would cost more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.ledger import Ledger, LedgerKind

BEYOND: LedgerKind = "values beyond the pad length"
EVENTS_BEYOND: LedgerKind = "events with values beyond the pad length"


class Tally:
    """What events added to C ledger lines.

    counted: kind and place of each line.

    >>> tally = Tally([("values beyond the pad length", "pt"), ("values clipped", "pt")])
    >>> tally.add(np.array([0]), np.array([[2, 0, 1]]))
    >>> print(tally.ledger())
    events with values beyond the pad length: 2 (pt)
    values beyond the pad length: 3 (pt)
    """

    def __init__(self, counted: Sequence[tuple[LedgerKind, str]]) -> None:
        self._counted = tuple(counted)
        self._values = np.zeros(len(self._counted), np.int64)
        self._events = np.zeros(len(self._counted), np.int64)

    def add(self, lines: NDArray[np.int64], counts: NDArray[np.int32]) -> None:
        """Add n events. lines: ``(U,)``, numbers of lines. counts: ``(U, n)``, of each event."""
        self._values[lines] += counts.sum(axis=1, dtype=np.int64)
        self._events[lines] += np.count_nonzero(counts, axis=1)

    def ledger(self) -> Ledger:
        """All that was added."""
        found = Ledger()
        values, events = self._values.tolist(), self._events.tolist()
        for (kind, place), count, with_it in zip(self._counted, values, events, strict=True):
            found.add(kind, count, place)
            if kind == BEYOND:
                found.add(EVENTS_BEYOND, with_it, place)
        return found


def ledger_of(counts: NDArray[np.int32], counted: Sequence[tuple[LedgerKind, str]]) -> Ledger:
    """What a transform did to n events. counts: ``(n, C)``, of each to the C lines ``counted``."""
    tally = Tally(counted)
    tally.add(np.arange(len(counted)), counts.T)
    return tally.ledger()
