"""What a tree of a file holds, known without reading it all.

A UUID does not tell: a tree written again in place, a file written with ``?reproducible``, keep
it. So the identity of content is made of the size of the file, the key of the tree, the tables
of where its baskets or pages lie, and a few bytes of these. It is the same wherever a copy of
the file lies. Values that change and leave all of that as it was are seen by what the file
system or the server says: when the file was modified, or its ETag.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.files.schema import is_rntuple

SAMPLES = 3
SAMPLE_BYTES = 1024


@dataclass(frozen=True)
class Content:
    """What a tree of a file holds.

    digest: the same for all copies. size: of the file, in bytes. state: of this copy, what its
    file system or server says of when it changed (nanoseconds, time or ETag; may be empty).
    """

    digest: str
    size: int
    state: str

    def difference(self, now: Content) -> str:
        """How this content of a file became the other one, empty if it did not.

        >>> Content("a", 10, "1").difference(Content("a", 10, "2"))
        'its modification time or ETag was 1, it is 2'
        """
        if self.size != now.size:
            return f"it had {self.size:,} bytes, it has {now.size:,}"
        if self.digest != now.digest:
            return "its tree or the places of its data are others"
        if self.state != now.state and self.state and now.state:
            return f"its modification time or ETag was {self.state}, it is {now.state}"
        return ""

    @property
    def here(self) -> tuple[str, str]:
        """What all that is cached of this copy is bound to."""
        return (self.digest, self.state)


def content_of(directory: Any, path: str, tree: Any) -> Content:
    """The content of a tree of an open file."""
    source = directory.file.source
    size = source.num_bytes
    key = directory.key(path)
    place = [
        str(directory.file.uuid), path, size,
        key.fCycle, key.fSeekKey, key.fNbytes, key.fObjlen, key.fDatime, int(tree.num_entries),
    ]  # fmt: skip
    digest = hashlib.blake2b(repr(place).encode(), digest_size=16)
    places = []
    for table, where in _ntuple_tables(tree) if is_rntuple(tree) else _ttree_tables(tree):
        digest.update(table)
        places.append(where)
    for sample in _samples(source, np.concatenate([np.zeros((0, 2), np.int64), *places])):
        digest.update(sample)
    return Content(digest.hexdigest(), size or 0, source.state)


def _ttree_tables(tree: Any) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """The tables of each branch, and ``(n, 2)`` place and size of its baskets."""
    for branch in tree.itervalues(recursive=True):
        loose = branch.embedded_baskets
        count = branch.num_baskets - len(loose)
        seek, size = (
            np.asarray(branch.member(name)[:count], np.int64)
            for name in ("fBasketSeek", "fBasketBytes")
        )
        edges = np.asarray(branch.member("fBasketEntry")[: count + 1], np.int64)
        parts = [branch.name.encode(), seek.tobytes(), size.tobytes(), edges.tobytes()]
        parts += [basket.data.tobytes() for basket in loose]
        yield b"\0".join(parts), np.stack([seek, size], axis=1)


def _ntuple_tables(tree: Any) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """The checksum of each list of pages, and ``(n, 2)`` place and size of its pages."""
    yield repr((tree.header.checksum, tree.footer.checksum)).encode(), np.zeros((0, 2), np.int64)
    for pages in tree.page_list_envelopes:
        found = [
            (page.locator.offset, page.locator.num_bytes)
            for cluster in pages.pagelinklist
            for column in cluster
            for page in column.pages
        ]
        yield repr(pages.checksum).encode(), np.array(found, np.int64).reshape(-1, 2)


def _samples(source: Any, places: NDArray[np.int64]) -> list[bytes]:
    """Bytes from the middle of a few baskets or pages, the same ones each time."""
    if not len(places):
        return []
    places = np.unique(places, axis=0)
    chosen = places[np.unique(np.linspace(0, len(places) - 1, SAMPLES).astype(np.int64))]
    end = source.num_bytes
    ranges = []
    for start, size in chosen.tolist():
        first = start + size // 2
        last = min(first + SAMPLE_BYTES, start + size, end if end is not None else first)
        if start >= 0 and first < last:
            ranges.append((first, last))
    if not ranges:
        return []
    chunks = source.chunks(ranges, queue.Queue())
    return [bytes(chunk.raw_data) for chunk in chunks]
