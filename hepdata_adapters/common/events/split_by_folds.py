"""The split by folds: each event is tested in one of them."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import FoldSplit
from hepdata_adapters.common.events.identity import identity_name
from hepdata_adapters.common.events.split_by_identity import ByIdentity
from hepdata_adapters.common.events.split_strategy import SPLITS, Entries


class ByFolds(ByIdentity[FoldSplit]):
    """By a hash of each event's identity: one fold is test, the next one validation.

    >>> ByFolds(FoldSplit(folds=5, fold=3)).description(("run", "event"))
    'run, event (fold 3 of 0 to 4)'
    """

    hint: ClassVar[str] = "raise split.folds or change split.seed"

    def codes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.int64]:
        hashed = self.hashes(branches, entries)
        folds, fold = self._numbers
        after = ((hashed % np.uint64(folds)).astype(np.int64) - fold) % folds
        codes = np.full(len(after), SPLITS.index("train"), np.int64)
        codes[after == 0] = SPLITS.index("test")
        codes[after == 1] = SPLITS.index("validation")
        return codes

    def description(self, branches: tuple[str, ...]) -> str:
        folds, fold = self._numbers
        return f"{identity_name(branches)} (fold {fold} of 0 to {folds - 1})"

    @property
    def _numbers(self) -> tuple[int, int]:
        return cast(int, self.split.folds), cast(int, self.split.fold)
