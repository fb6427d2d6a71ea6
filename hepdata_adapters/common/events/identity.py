"""The identity of an event, which the files keep whatever is done to them, and its hash.

(run, luminosityBlock, event) survive everything, merging included. Without these branches the UUID
of the file and the entry number tell events apart: that survives re-chunking, reordering and
renaming, but not merging, as a merged file has a new UUID and new entry numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import Identity
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import BranchError
from hepdata_adapters.common.core.hashing import hash_integers, key
from hepdata_adapters.common.events.split_strategy import Entries
from hepdata_adapters.common.files.manifest import FileInfo, Manifest

IDENTITY = ("run", "luminosityBlock", "event")


def identity_branches(identity: Identity, manifest: Manifest) -> tuple[str, ...]:
    """The branches that identify an event, or none for file UUID and entry number.

    Raises BranchError if a branch named in the config is not a flat integer branch.
    """
    if identity == "entry":
        return ()
    if identity == "auto":
        found = all(
            name in file.schema and is_integer(file, name)
            for file in manifest.files
            for name in IDENTITY
        )
        return IDENTITY if found else ()
    for file in manifest.files:
        for name in identity:
            if not is_integer(file, name):
                raise BranchError(
                    f"an identity branch is one integer an event, this is "
                    f"{file.branch(name).describe()}",
                    file=file.url, tree=file.tree, branch=name,
                )  # fmt: skip
    return identity


def identity_hashes(seed: int, branches: tuple[str, ...], entries: Entries) -> NDArray[np.uint64]:
    """The hash of each event, ``(n,)``: of its ``branches``, or of its file and entry number."""
    numbers = [
        column for name in branches if not isinstance(column := entries.columns[name], Jagged)
    ]
    if not branches:
        file_key = np.full(entries.size, key(entries.file.uuid, entries.file.tree), np.uint64)
        numbers = [file_key, np.arange(entries.start, entries.stop)]
    return hash_integers(numbers, key("split", seed))


def identity_name(branches: tuple[str, ...]) -> str:
    """The identity of these branches, for people."""
    return ", ".join(branches) or "file UUID and entry"


def is_integer(file: FileInfo, name: str, kinds: str = "iu") -> bool:
    """Whether a branch is one number an event, of these kinds of NumPy."""
    branch = file.branch(name)
    return branch.kind == "flat" and np.dtype(branch.dtype).kind in kinds
