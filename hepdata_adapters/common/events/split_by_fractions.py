"""The split by fractions: shares of the hashes of the events' identities."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import FractionSplit, Identity
from hepdata_adapters.common.events.identity import (
    identity_branches,
    identity_hashes,
    identity_name,
)
from hepdata_adapters.common.events.split_strategy import Entries, SplitStrategy
from hepdata_adapters.common.files.manifest import Manifest


class ByFractions(SplitStrategy[FractionSplit]):
    """By a hash of each event's identity, as a number from 0 to 1."""

    hint: ClassVar[str] = "raise split.train or change split.seed"
    excluded_as: ClassVar[str] = "identity of the event"

    @property
    def identity(self) -> Identity:
        return self.split.identity

    @property
    def seed(self) -> int:
        return self.split.seed

    def branches(self, manifest: Manifest) -> tuple[str, ...]:
        return identity_branches(self.split.identity, manifest)

    def codes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.int64]:
        split = self.split
        hashed = identity_hashes(split.seed, branches, entries)
        uniform = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
        codes = np.searchsorted([split.train, split.train + split.validation], uniform, "right")
        if split.test == 0.0:  # rounding of train + validation must not leave a sliver
            codes = np.minimum(codes, 1)
        return codes.astype(np.int64)

    def description(self, branches: tuple[str, ...]) -> str:
        return identity_name(branches)
