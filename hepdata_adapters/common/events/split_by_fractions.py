"""The split by fractions: shares of the hashes of the events' identities."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import FractionSplit
from hepdata_adapters.common.events.identity import identity_name
from hepdata_adapters.common.events.split_by_identity import ByIdentity
from hepdata_adapters.common.events.split_strategy import Entries


class ByFractions(ByIdentity[FractionSplit]):
    """By a hash of each event's identity, as a number from 0 to 1."""

    hint: ClassVar[str] = "raise split.train or change split.seed"

    def codes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.int64]:
        split = self.split
        hashed = self.hashes(branches, entries)
        uniform = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
        codes = np.searchsorted([split.train, split.train + split.validation], uniform, "right")
        if split.test == 0.0:  # rounding of train + validation must not leave a sliver
            codes = np.minimum(codes, 1)
        return codes.astype(np.int64)

    def description(self, branches: tuple[str, ...]) -> str:
        return identity_name(branches)
