"""What a way to split is asked: which branches it reads, and to which split each event belongs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import Identity, Split
from hepdata_adapters.common.core.columns import Column
from hepdata_adapters.common.files.manifest import FileInfo, Manifest

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
OUTSIDE = -1
"""The code of an event of no known split."""

_S = TypeVar("_S", bound=Split)


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries ``start`` to ``stop`` of a file, with the columns that were read of them."""

    file: FileInfo
    start: int
    stop: int
    columns: Mapping[str, Column]

    @property
    def size(self) -> int:
        """How many there are."""
        return self.stop - self.start


@dataclass(frozen=True)
class SplitStrategy(ABC, Generic[_S]):
    """What a split of the config does with files and columns.

    hint: how to get training events where there are none. excluded_as: why its branches are no
    features of ``"*"``.
    """

    split: _S
    hint: ClassVar[str]
    excluded_as: ClassVar[str] = "decides the split"

    @property
    def identity(self) -> Identity | None:
        """The identity of the config whose hash decides; None where something else does."""
        return None

    @property
    def seed(self) -> int:
        """Of what is left to chance."""
        return 0

    @abstractmethod
    def branches(self, manifest: Manifest) -> tuple[str, ...]:
        """The branches to read; raises BranchError or ConfigError where the files do not fit."""

    @abstractmethod
    def codes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.int64]:
        """The split of each, ``(n,)``: an index into `SPLITS`. Their columns have the branches."""

    @abstractmethod
    def description(self, branches: tuple[str, ...]) -> str:
        """What decides the split, for people."""

    def of_files(self, urls: Iterable[str]) -> list[SplitName] | None:
        """The split of each file, where their names alone say it."""
        return None

    def tells(self, branches: tuple[str, ...], *, trained: bool) -> bool:
        """Whether events of a file have a known split; trained: whether the training saw it.

        File UUID and entry number tell of files of the training only.
        """
        return trained or bool(branches)

    def codes_if_known(
        self, branches: tuple[str, ...], entries: Entries, *, trained: bool
    ) -> NDArray[np.int64]:
        """`codes` of a file for which `tells` is true, and `OUTSIDE` rather than an error."""
        return self.codes(branches, entries)
