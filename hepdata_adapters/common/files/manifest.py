"""The manifest: what the files are, found before the first event is read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.errors import ConfigError, DataError, SchemaError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.files.baskets import check_entries
from hepdata_adapters.common.files.content import Content, content_of
from hepdata_adapters.common.files.open import expand, open_root, reading, split_tree
from hepdata_adapters.common.files.preparation import Preparation
from hepdata_adapters.common.files.schema import (
    Branch,
    Schema,
    get_tree,
    is_rntuple,
    read_schema,
    require,
)

NOTHING_PREPARED = Preparation()
UNIT_ENTRIES = (2048, 65_536)
# the clusters of most files are smaller: each basket is then decompressed once


@dataclass(frozen=True, eq=False)
class FileInfo:
    """One tree of one file.

    sample: index of its sample. units: ``(u + 1,)`` int64 boundaries of the entry ranges that
    are read at once. uuid: ROOT's own, which survives renaming and rewriting. content: what the
    tree holds. schema: its branches and those that ``preparation`` computes. record: where the
    checksums of its columns are kept, if reading is to compare with them.
    """

    url: str
    tree: str
    sample: int
    uuid: str
    content: Content
    entries: int
    units: NDArray[np.int64]
    schema: Schema
    preparation: Preparation = NOTHING_PREPARED
    record: Path | None = None

    def branch(self, name: str) -> Branch:
        """The branch; raises BranchError naming file, tree and the nearest names."""
        return require(self.schema, name, file=self.url, tree=self.tree)

    @property
    def as_written(self) -> FileInfo:
        """The file with its branches as they are: nothing selected, sorted or derived."""
        return replace(self, preparation=NOTHING_PREPARED)


@dataclass(frozen=True, eq=False)
class Manifest:
    """All files of a dataset, in the order of the samples; globs in sorted order."""

    files: tuple[FileInfo, ...]

    @property
    def entries(self) -> int:
        return sum(file.entries for file in self.files)

    @property
    def here(self) -> str:
        """A digest of all that is there, as it is there: what is cached of it is bound to it."""
        return digest([[file.content.here, file.entries] for file in self.files])

    @property
    def empty(self) -> list[FileInfo]:
        """Files without a single event."""
        return [file for file in self.files if file.entries == 0]

    def branch(self, name: str) -> Branch:
        """The branch, which all files must hold alike.

        Raises BranchError where it is missing, SchemaError where two files disagree.
        """
        first = self.files[0]
        branch = first.branch(name)
        for file in self.files[1:]:
            other = file.branch(name)
            if (other.kind, other.dtype, other.size) != (branch.kind, branch.dtype, branch.size):
                raise SchemaError(
                    f"is {other.describe()} here but {branch.describe()} in {first.url}",
                    file=file.url, tree=file.tree, branch=name,
                )  # fmt: skip
        return branch

    def common_schema(self) -> Schema:
        """The branches, if all files have the same; raises SchemaError naming one that differs."""
        first = self.files[0]
        for file in self.files[1:]:
            for here, there in ((file, first), (first, file)):
                extra = [name for name in here.schema if name not in there.schema]
                if extra:
                    raise SchemaError(
                        f"has {_listed(extra)}, which {there.url}:{there.tree} has not; "
                        f"exclude it or list the features",
                        file=here.url, tree=here.tree,
                    )  # fmt: skip
            for name, branch in first.schema.items():
                if branch.readable or file.schema[name].readable:
                    self.branch(name)
        return first.schema


def build_manifest(samples: Sequence[Sample], threads: int = 8) -> Manifest:
    """Open every file once, in threads, and note what it holds.

    Raises FileError, TreeError or ConfigError (a file listed twice).
    """
    wanted: list[tuple[int, str, str | None]] = []
    for number, sample in enumerate(samples):
        for name in sample.files:
            url, tree = split_tree(name)
            if tree and sample.tree and tree != sample.tree:
                raise ConfigError(f"sample {sample.name!r}: tree {sample.tree!r}, but {name!r}")
            wanted += [(number, path, tree or sample.tree) for path in expand(url)]
    with ThreadPoolExecutor(max(1, min(threads, len(wanted)))) as pool:
        files = tuple(pool.map(lambda item: scan_file(*item), wanted))
    seen: dict[str, FileInfo] = {}
    for file in files:
        if not file.entries:
            continue
        first = seen.setdefault(file.content.digest, file)
        if first is not file:  # another spelling, a link or a copy: the same events again
            other = f", also as {first.url}" if first.url != file.url else ""
            raise ConfigError(f"{file.url}:{file.tree} is listed twice{other}")
    if not sum(file.entries for file in files):
        names = _listed([file.url for file in files])
        raise DataError(f"all files are empty: {names}")
    return Manifest(files)


def scan_file(sample: int, url: str, tree_name: str | None) -> FileInfo:
    """Read the metadata of one file."""
    with open_root(url) as directory, reading(file=url, tree=tree_name):
        tree = get_tree(directory, tree_name, url)
        path = tree_name or tree.name
        path = tree.object_path.strip("/").split(";")[0] if not is_rntuple(tree) else path
        schema, entries = read_schema(tree), int(tree.num_entries)
        if not is_rntuple(tree):
            check_entries(tree, entries)
        return FileInfo(
            url=url,
            tree=path,
            sample=sample,
            uuid=str(directory.file.uuid),
            content=content_of(directory, path, tree),
            entries=entries,
            units=unit_bounds(_clusters(tree), entries),
            schema=schema,
        )


def unit_bounds(
    clusters: Sequence[int], entries: int, limits: tuple[int, int] = UNIT_ENTRIES
) -> NDArray[np.int64]:
    """Boundaries of units: clusters, small ones merged and large ones cut evenly.

    >>> unit_bounds([0, 10, 20, 100], 100, limits=(20, 50)).tolist()
    [0, 20, 60, 100]
    """
    low, high = limits
    bounds = [0]
    for edge in [*sorted(clusters), entries]:
        size = min(edge, entries) - bounds[-1]
        if size > 0 and (size >= low or edge >= entries):
            pieces = -(-size // high)
            bounds += [bounds[-1] + size * (i + 1) // pieces for i in range(pieces)]
    return np.array(bounds, np.int64)


def _clusters(tree: Any) -> list[int]:
    if is_rntuple(tree):
        return [int(cluster.num_first_entry) for cluster in tree.cluster_summaries]
    return [int(edge) for edge in tree.common_entry_offsets()]


def _listed(names: Sequence[str], shown: int = 3) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
