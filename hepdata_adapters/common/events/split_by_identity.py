"""What the splits by a hash of each event's identity share."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import FoldSplit, FractionSplit, Identity
from hepdata_adapters.common.events.identity import identity_branches, identity_hashes
from hepdata_adapters.common.events.split_strategy import Entries, SplitStrategy
from hepdata_adapters.common.files.manifest import Manifest

Hashed = TypeVar("Hashed", FractionSplit, FoldSplit)


class ByIdentity(SplitStrategy[Hashed], Generic[Hashed]):
    """An event is where the hash of its identity says; only the seed can change that."""

    excluded_as: ClassVar[str] = "identity of the event"

    @property
    def identity(self) -> Identity:
        return self.split.identity

    @property
    def seed(self) -> int:
        return self.split.seed

    def branches(self, manifest: Manifest) -> tuple[str, ...]:
        return identity_branches(self.split.identity, manifest)

    def hashes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.uint64]:
        """The hash of each event, ``(n,)``."""
        return identity_hashes(self.split.seed, branches, entries)
