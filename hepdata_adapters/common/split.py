"""Train, validation and test by a hash of each event's identity.

The hash sees (run, luminosityBlock, event) or, without them, the UUID of the file and the
entry number: the split survives re-chunking, reordering and renaming of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.columns import Column, Jagged
from hepdata_adapters.common.config import Split
from hepdata_adapters.common.errors import BranchError
from hepdata_adapters.common.hashing import hash_integers, key
from hepdata_adapters.common.manifest import FileInfo, Manifest

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
IDENTITY = ("run", "luminosityBlock", "event")


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
    identity: tuple[str, ...],
    file: FileInfo,
    start: int,
    stop: int,
    columns: Mapping[str, Column],
) -> NDArray[np.int64]:
    """The split of entries ``start`` to ``stop``, ``(n,)``: an index into `SPLITS`."""
    if identity:
        numbers = [column for name in identity if not isinstance(column := columns[name], Jagged)]
    else:
        file_key = np.full(stop - start, key(file.uuid, file.tree), np.uint64)
        numbers = [file_key, np.arange(start, stop)]
    hashed = hash_integers(numbers, key("split", split.seed))
    uniform = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    codes = np.searchsorted([split.train, split.train + split.validation], uniform, "right")
    if split.test == 0.0:  # rounding of train + validation must not leave a sliver
        codes = np.minimum(codes, 1)
    return codes.astype(np.int64)


def _is_integer(file: FileInfo, name: str) -> bool:
    branch = file.branch(name)
    return branch.kind == "flat" and np.dtype(branch.dtype).kind in "iu"
