"""Which epoch comes next, in memory that worker processes which run already see."""

from __future__ import annotations

import torch

from hepdata_adapters.common.stream.epoch import Epoch

_NOT_GIVEN = 0  # canonical counts are at least 1


class SharedPosition:
    """The next epoch: its number, its batches that are done, and its canonical counts.

    Pickling it hands on the same memory, so that all processes see what any of them sets.
    """

    def __init__(self, number: int, ranks: int | None, workers: int | None) -> None:
        values = torch.tensor([number, 0, ranks or _NOT_GIVEN, workers or _NOT_GIVEN])
        self._values = values.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def number(self) -> int:
        """Of the next epoch."""
        return int(self._values[0])

    @property
    def start(self) -> int:
        """Global batches of it that are done."""
        return int(self._values[1])

    @property
    def canonical(self) -> tuple[int | None, int | None]:
        """Canonical ranks and workers, None where none are given."""
        ranks, workers = self._values[2:].tolist()
        return ranks or None, workers or None

    def set_number(self, number: int) -> None:
        """Choose another epoch, from its start; the canonical counts stay."""
        self._values[0], self._values[1] = number, 0

    def set_to(self, epoch: Epoch) -> None:
        """Make this the next epoch."""
        options = epoch.options
        counts = options.canonical_ranks or _NOT_GIVEN, options.canonical_workers or _NOT_GIVEN
        self._values[:] = torch.tensor([epoch.number, epoch.start, *counts])
