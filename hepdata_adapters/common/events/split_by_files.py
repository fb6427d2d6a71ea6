"""The split by files: the name of a file says it, so an event in two files can be in two splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import FileSplit
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.split_strategy import (
    OUTSIDE,
    SPLITS,
    Entries,
    SplitName,
    SplitStrategy,
)
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.files.open import is_remote


class ByFiles(SplitStrategy[FileSplit]):
    """By patterns of the files of validation and test; all others train."""

    hint: ClassVar[str] = "leave files over for it in split.files"

    def branches(self, manifest: Manifest) -> tuple[str, ...]:
        """None; raises ConfigError for a pattern of no file, and a file in two splits."""
        used = set()
        for file in manifest.files:
            found = list(_matches(self.split, file.url))
            used.update(found)
            names = dict(found)
            if len(names) > 1:
                both = " and ".join(f"{name} ({pattern!r})" for name, pattern in names.items())
                raise ConfigError(f"split.files: {file.url} is in {both}; a file has one split")
        for name, patterns in self.split.files.items():
            for pattern in patterns:
                if (name, pattern) not in used:
                    raise ConfigError(
                        f"split.files.{name}: no file matches {pattern!r}, for example not "
                        f"{manifest.files[0].url}"
                    )
        return ()

    def codes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.int64]:
        code = SPLITS.index(split_of_file(self.split, entries.file.url))
        return np.full(entries.size, code, np.int64)

    def description(self, branches: tuple[str, ...]) -> str:
        return "file"

    def of_files(self, urls: Iterable[str]) -> list[SplitName]:
        return [split_of_file(self.split, url) for url in urls]

    def tells(self, branches: tuple[str, ...], *, trained: bool) -> bool:
        return True

    def codes_if_known(
        self, branches: tuple[str, ...], entries: Entries, *, trained: bool
    ) -> NDArray[np.int64]:
        """A file that no pattern matches is of the training only where this saw it."""
        if trained or any(_matches(self.split, entries.file.url)):
            return self.codes(branches, entries)
        return np.full(entries.size, OUTSIDE, np.int64)


def split_of_file(split: FileSplit, url: str) -> SplitName:
    """The split of all events of a file.

    >>> split_of_file(FileSplit(files={"test": "D/*.root"}), "root://host//store/D/a.root")
    'test'
    """
    return next((name for name, _ in _matches(split, url)), "train")


def _matches(split: FileSplit, url: str) -> Iterator[tuple[SplitName, str]]:
    """The splits, with their patterns, that a file belongs to."""
    path = PurePosixPath(url.split("?")[0] if is_remote(url) else url)
    for name, patterns in split.files.items():
        for pattern in patterns:
            same = path.parts[-len(PurePosixPath(pattern).parts) :] == PurePosixPath(pattern).parts
            if same or path.match(pattern):  # a name that exists is that name
                yield name, pattern
