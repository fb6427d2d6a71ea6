"""Train, validation and test: to which of them each event belongs, a function of the event alone.

By fractions and by folds a hash of the event's identity decides. It sees (run, luminosityBlock,
event): the split then survives whatever is done to the files, merging included. Without these
branches it sees the UUID of the file and the entry number: that survives re-chunking, reordering
and renaming, but not merging, as a merged file has a new UUID and new entry numbers. By a branch
the event itself says it, by files the name of its file; only then an event that was written to
two files (two trigger streams, say) can be in two splits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Split
from hepdata_adapters.common.core.columns import Array, Column, Jagged
from hepdata_adapters.common.core.errors import BranchError, ConfigError, InvalidValueError
from hepdata_adapters.common.core.hashing import hash_integers, key
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.open import is_remote

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
IDENTITY = ("run", "luminosityBlock", "event")


def split_branches(split: Split, manifest: Manifest) -> tuple[str, ...]:
    """The branches to read that decide the split: identity, the config's branch, or none.

    Raises BranchError for a branch that is of another kind, ConfigError for patterns of files
    that match no file or put one into two splits.
    """
    if split.files:
        _check_patterns(split, manifest)
        return ()
    if split.branch is None:
        return identity_branches(split, manifest)
    for file in manifest.files:
        if not _is_integer(file, split.branch, "iub"):
            raise BranchError(
                f"a branch to split by is one integer or bool an event, this is "
                f"{file.branch(split.branch).describe()}",
                file=file.url, tree=file.tree, branch=split.branch,
            )  # fmt: skip
    return (split.branch,)


def identity_branches(split: Split, manifest: Manifest) -> tuple[str, ...]:
    """The branches that identify an event, or none for file UUID and entry number.

    Raises BranchError if a branch named in the config is not a flat integer branch.
    """
    if split.identity == "entry":
        return ()
    if split.identity == "auto":
        found = all(
            name in file.schema and _is_integer(file, name)
            for file in manifest.files
            for name in IDENTITY
        )
        return IDENTITY if found else ()
    for file in manifest.files:
        for name in split.identity:
            if not _is_integer(file, name):
                raise BranchError(
                    f"an identity branch is one integer an event, this is "
                    f"{file.branch(name).describe()}",
                    file=file.url, tree=file.tree, branch=name,
                )  # fmt: skip
    return split.identity


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
    if split.files:
        return np.full(stop - start, SPLITS.index(split_of_file(split, file.url)), np.int64)
    numbers = [column for name in branches if not isinstance(column := columns[name], Jagged)]
    if split.branch is not None:
        return _listed_codes(split, numbers[0], file, start)
    if not branches:
        file_key = np.full(stop - start, key(file.uuid, file.tree), np.uint64)
        numbers = [file_key, np.arange(start, stop)]
    hashed = hash_integers(numbers, key("split", split.seed))
    if split.folds is not None and split.fold is not None:
        return _fold_codes(hashed, split.folds, split.fold)
    uniform = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    codes = np.searchsorted([split.train, split.train + split.validation], uniform, "right")
    if split.test == 0.0:  # rounding of train + validation must not leave a sliver
        codes = np.minimum(codes, 1)
    return codes.astype(np.int64)


def split_of_file(split: Split, url: str) -> SplitName:
    """The split of all events of a file, for a split by files.

    >>> split_of_file(Split(files={"test": "D/*.root"}), "root://host//store/D/a.root")
    'test'
    """
    return matching_split(split, url) or "train"


def matching_split(split: Split, url: str) -> SplitName | None:
    """The split whose patterns a file matches, if any."""
    return next((name for name, _ in _matches(split, url)), None)


def describe_split(split: Split, branches: tuple[str, ...]) -> str:
    """What decides the split, for people.

    >>> describe_split(Split(folds=5, fold=3), ("run", "event"))
    'run, event (fold 3 of 0 to 4)'
    """
    if split.files:
        return "file"
    decided = ", ".join(branches) or "file UUID and entry"
    if split.folds is not None:
        return f"{decided} (fold {split.fold} of 0 to {split.folds - 1})"
    return f"the value of {decided}" if split.branch is not None else decided


def _fold_codes(hashed: NDArray[np.uint64], folds: int, fold: int) -> NDArray[np.int64]:
    """Fold ``fold`` is test, the next one validation, the others train."""
    after = ((hashed % np.uint64(folds)).astype(np.int64) - fold) % folds
    codes = np.full(len(after), SPLITS.index("train"), np.int64)
    codes[after == 0] = SPLITS.index("test")
    codes[after == 1] = SPLITS.index("validation")
    return codes


def _listed_codes(split: Split, column: Array, file: FileInfo, start: int) -> NDArray[np.int64]:
    codes = np.full(len(column), -1, np.int64)
    for name, values in split.values.items():
        for value in values:
            codes[column == value] = SPLITS.index(name)
    unlisted = np.flatnonzero(codes < 0)
    if len(unlisted):
        entry = start + int(unlisted[0])
        raise InvalidValueError(
            f"the value {int(column[unlisted[0]])} is listed for no split; "
            f"add it to split.values of one of {', '.join(SPLITS)}",
            file=file.url, tree=file.tree, branch=split.branch, entries=(entry, entry + 1),
        )  # fmt: skip
    return codes


def _matches(split: Split, url: str) -> Iterator[tuple[SplitName, str]]:
    """The splits, with their patterns, that a file belongs to."""
    path = PurePosixPath(url.split("?")[0] if is_remote(url) else url)
    for name, patterns in split.files.items():
        for pattern in patterns:
            same = path.parts[-len(PurePosixPath(pattern).parts) :] == PurePosixPath(pattern).parts
            if same or path.match(pattern):  # a name that exists is that name
                yield name, pattern


def _check_patterns(split: Split, manifest: Manifest) -> None:
    used = set()
    for file in manifest.files:
        found = list(_matches(split, file.url))
        used.update(found)
        names = dict(found)
        if len(names) > 1:
            both = " and ".join(f"{name} ({pattern!r})" for name, pattern in names.items())
            raise ConfigError(f"split.files: {file.url} is in {both}; a file has one split")
    for name, patterns in split.files.items():
        for pattern in patterns:
            if (name, pattern) not in used:
                raise ConfigError(
                    f"split.files.{name}: no file matches {pattern!r}, for example not "
                    f"{manifest.files[0].url}"
                )


def _is_integer(file: FileInfo, name: str, kinds: str = "iu") -> bool:
    branch = file.branch(name)
    return branch.kind == "flat" and np.dtype(branch.dtype).kind in kinds
