"""Train, validation and test: to which of them each event belongs, a function of the event alone.

By fractions and by folds a hash of the event's identity decides (see `identity`), by a branch the
event itself, by files the name of its file; only then an event that was written to two files (two
trigger streams, say) can be in two splits. What each way does is its `SplitStrategy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import (
    BranchSplit,
    FileSplit,
    FoldSplit,
    FractionSplit,
    Split,
)
from hepdata_adapters.common.core.columns import Column
from hepdata_adapters.common.events.identity import IDENTITY
from hepdata_adapters.common.events.split_by_branch import ByBranch
from hepdata_adapters.common.events.split_by_files import ByFiles, split_of_file
from hepdata_adapters.common.events.split_by_folds import ByFolds
from hepdata_adapters.common.events.split_by_fractions import ByFractions
from hepdata_adapters.common.events.split_strategy import (
    OUTSIDE,
    SPLITS,
    Entries,
    SplitName,
    SplitStrategy,
)
from hepdata_adapters.common.files.manifest import FileInfo, Manifest

__all__ = [
    "IDENTITY",
    "OUTSIDE",
    "SPLITS",
    "STRATEGIES",
    "Entries",
    "SplitName",
    "SplitStrategy",
    "describe_split",
    "split_branches",
    "split_codes",
    "split_of_file",
    "strategy",
]  # fmt: skip

STRATEGIES: dict[type[Split], type[SplitStrategy[Any]]] = {
    FractionSplit: ByFractions,
    FoldSplit: ByFolds,
    BranchSplit: ByBranch,
    FileSplit: ByFiles,
}
"""What each member of the config's `WAYS` does."""


def strategy(split: Split) -> SplitStrategy[Any]:
    """What a split of the config does with files and columns.

    >>> strategy(Split(files={"test": "D/*.root"})).hint
    'leave files over for it in split.files'
    """
    return STRATEGIES[type(split)](split)


def split_branches(split: Split, manifest: Manifest) -> tuple[str, ...]:
    """The branches to read that decide the split: identity, the config's branch, or none.

    Raises BranchError for a branch that is of another kind, ConfigError for patterns of files
    that match no file or put one into two splits.
    """
    return strategy(split).branches(manifest)


def split_codes(
    split: Split,
    branches: tuple[str, ...],
    file: FileInfo,
    start: int,
    stop: int,
    columns: Mapping[str, Column],
) -> NDArray[np.int64]:
    """The split of entries ``start`` to ``stop``, ``(n,)``: an index into `SPLITS`.

    branches: those of `split_branches`, whose ``columns`` hold these entries.
    Raises InvalidValueError for a value of the split's branch that is listed nowhere.
    """
    return strategy(split).codes(branches, Entries(file, start, stop, columns))


def describe_split(split: Split, branches: tuple[str, ...]) -> str:
    """What decides the split, for people.

    >>> describe_split(Split(folds=5, fold=3), ("run", "event"))
    'run, event (fold 3 of 0 to 4)'
    """
    return strategy(split).description(branches)
