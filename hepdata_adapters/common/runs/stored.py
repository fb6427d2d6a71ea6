"""How the branches that are read lie in a file: kind of tree, compression, bytes of an entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, NamedTuple

from hepdata_adapters.common.files.baskets import BLOCK, find_baskets
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.open import open_root, reading
from hepdata_adapters.common.files.schema import Branch, get_tree, is_rntuple

LOOKED_AT = 8
"""Branches whose compression is looked at in the file itself: trees of some writers say none."""
_KEY_LENGTH = slice(14, 16)
_HEAD = 512  # bytes: the key of a basket, with its names, and the first block
_TAGS = {b"ZS": "ZSTD", b"L4": "LZ4", b"ZL": "ZLIB", b"XZ": "LZMA", b"CS": "old ZLIB"}
_NUMBERS = {1: "ZLIB", 2: "LZMA", 3: "old ZLIB", 4: "LZ4", 5: "ZSTD"}  # ROOT's, for RNTuples


class Stored(NamedTuple):
    """tree: its kind. compression: of most bytes, ``none`` for none. entry: bytes of an entry."""

    tree: str
    compression: str
    entry: float


def stored(file: FileInfo, names: Sequence[str]) -> Stored:
    """How branches lie in a file. Raises FileError where it cannot be opened."""
    branches = [file.branch(name) for name in names]
    with open_root(file.url) as directory, reading(file=file.url, tree=file.tree):
        tree = get_tree(directory, file.tree, file.url)
        if is_rntuple(tree):
            return Stored("RNTuple", *_of_pages(tree, branches))
        holders = [
            reduce(lambda parent, at: parent.branches[at], branch.place, tree)
            for branch in branches
        ]
        found = Counter(dict(_tags(holders)))
        size = sum(holder.compressed_bytes for holder in holders)
        return Stored("TTree", _most(found), size / max(file.entries, 1))


def _of_pages(ntuple: Any, branches: Sequence[Branch]) -> tuple[str, float]:
    """Of the first cluster."""
    columns = {number for branch in branches for number in branch.columns or ()}
    counts: Counter[str] = Counter()
    for number, column in enumerate(ntuple.page_link_list[0]):
        if number in columns:
            algorithm = (column.compression_settings or 0) // 100
            size = sum(page.locator.num_bytes for page in column.pages)
            counts[_NUMBERS.get(algorithm, "none")] += size
    entries = int(ntuple.cluster_summaries[0].num_entries)
    return _most(counts), sum(counts.values()) / max(entries, 1)


def _tags(holders: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Compression and size of the first baskets of some branches."""
    counts: Counter[str] = Counter()
    for holder in holders[:: max(1, len(holders) // LOOKED_AT)]:
        for basket in find_baskets(holder, 0, min(1, holder.num_entries)):
            if basket.kept is None:
                stop = min(basket.seek + _HEAD, basket.seek + basket.size)
                head = bytes(holder.file.source.chunk(basket.seek, stop).raw_data)
                key = int.from_bytes(head[_KEY_LENGTH], "big")
                tag = head[key : key + BLOCK.size][:2]
                counts[_TAGS.get(tag, "none")] += basket.size
    yield from counts.items()


def _most(found: Counter[str]) -> str:
    return found.most_common(1)[0][0] if found else ""
