"""What every representation but the vector gives: named arrays and counts for the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Array, Jagged
from hepdata_adapters.common.core.ledger import LedgerKind

Line = tuple[LedgerKind, str]
"""A line of the ledger: what happened, and the branch it happened to."""


@dataclass(frozen=True, eq=False)
class Output:
    """The arrays of n events by suffix, "" for the main one; a ragged one is a `Jagged`.

    counts: ``(n, C)`` int32, what each event adds to the C ledger lines that the transform
    names in ``counted``.
    """

    arrays: dict[str, Array | Jagged]
    counts: NDArray[np.int32]


def line_counts(
    lines: Sequence[Line], counts: Mapping[Line, NDArray[Any]], events: int
) -> NDArray[np.int32]:
    """The counts ``(n,)`` of these ledger lines as columns ``(n, C)``; others are left out."""
    found = np.zeros((events, len(lines)), np.int32)
    for number, line in enumerate(lines):
        found[:, number] = counts[line]
    return found
