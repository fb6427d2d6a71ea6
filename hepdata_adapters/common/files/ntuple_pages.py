"""Columns of an RNTuple page by page: what an entry range costs does not depend on its cluster.

uproot decodes the whole cluster around an entry range, which may be the whole file. Here only the
pages that hold the range are decoded: numbers, indices and bits by us, other encodings by uproot's
own functions. A page that reaches far beyond the range is kept for the next one. (RNTuple binary
format, version 1.0: "Page list envelope", "Column encodings"; offsets of lists count from the
start of their cluster.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.files.baskets import DamagedError, check_offsets
from hepdata_adapters.common.files.compression import Bytes, Scratch, UnusualError, uncompressed
from hepdata_adapters.common.files.decoded_cache import DecodedCache, worth_keeping
from hepdata_adapters.common.files.page_kernels import join_bytes, undo_zigzag
from hepdata_adapters.common.files.pages import CHECKSUM, check_place, compare
from hepdata_adapters.common.files.schema import Branch

_TABLE = -1  # in the place of a page: where all pages of a column are


class Reading(NamedTuple):
    """An open RNTuple, the pages kept of it, and room for one page at a time."""

    ntuple: Any
    pages: DecodedCache
    scratch: Scratch


def find_metadata(ntuple: Any, branches: Sequence[Branch]) -> None:
    """Let uproot find what it keeps of these branches, before threads ask for it.

    It fills its tables where other threads see them: one that comes in the middle misses columns.
    """
    known = min(map(len, (ntuple.column_records, *ntuple.page_link_list)))
    for column in {column for branch in branches for column in branch.columns}:
        if column < known:
            ntuple.get_field_metadata(column)


def read_pages(
    ntuple: Any,
    branch: Branch,
    start: int,
    stop: int,
    pages: DecodedCache,
    scratch: Scratch | None = None,
) -> Column | None:
    """Entries ``start`` to ``stop`` of a branch, in the dtype of the file.

    None for a branch whose columns are not there in all clusters, or of another kind: uproot
    knows how. Raises DamagedError where pages, offsets and entries do not fit each other.
    """
    columns = branch.columns
    clusters = list(_clusters(ntuple, start, stop))
    if not columns or not all(_plain(ntuple, cluster, columns) for cluster, *_ in clusters):
        return None
    tree = Reading(ntuple, pages, scratch or Scratch())
    if branch.kind != "jagged":
        size = branch.size
        parts = []
        for cluster, first, last, entries in clusters:
            _check_size(tree, cluster, columns[0], entries * size, branch.name)
            parts.append(_elements(tree, cluster, columns[0], first * size, last * size))
        values = _joined(parts)
        return values.reshape(-1, size) if branch.kind == "array" else values
    contents: list[NDArray[Any]] = []
    ends = [np.zeros(1, np.int64)]
    for cluster, first, last, entries in clusters:
        _check_size(tree, cluster, columns[0], entries, branch.name)
        before = first - 1 if first else 0
        offsets = _elements(tree, cluster, columns[0], before, last).astype(np.int64)
        offsets = offsets if first else np.concatenate((np.zeros(1, np.int64), offsets))
        check_offsets(offsets, _size(tree, cluster, columns[1]), f"the lists of {branch.name}")
        low, high = int(offsets[0]), int(offsets[-1])
        contents.append(_elements(tree, cluster, columns[1], low, high))
        ends.append(offsets[1:] - low + ends[-1][-1])
    return Jagged(_joined(contents), np.concatenate(ends))


def _clusters(ntuple: Any, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, first and last entry inside, and all entries of the clusters that hold a range."""
    for number, summary in enumerate(ntuple.cluster_summaries):
        begin, entries = int(summary.num_first_entry), int(summary.num_entries)
        if begin < stop and begin + entries > start:
            yield number, max(start - begin, 0), min(stop - begin, entries), entries


def _plain(ntuple: Any, cluster: int, columns: tuple[int, ...]) -> bool:
    """Whether the columns are in the cluster, in the representation that the schema names."""
    links, records = ntuple.page_link_list[cluster], ntuple.column_records
    return all(
        column < min(len(links), len(records))
        and not links[column].suppressed
        and records[column].first_element_index == 0
        for column in columns
    )


def _table(tree: Reading, cluster: int, column: int) -> tuple[NDArray[np.int64], ...]:
    """Of the pages of a column: their first elements and the end, ``(p + 1,)``; then, ``(3, p)``,
    their first byte in the file, their bytes, and those of their checksum.
    """
    kept: tuple[NDArray[np.int64], ...] | None
    kept = tree.pages.get(tree.ntuple, (cluster, column, _TABLE))
    if kept is None:
        found = tree.ntuple.page_link_list[cluster][column].pages
        counts = np.array([page.num_elements for page in found], np.int64)
        places = [(page.locator.offset, page.locator.num_bytes, CHECKSUM * page.has_checksum)
                  for page in found]  # fmt: skip
        kept = np.append(0, np.cumsum(counts)), np.array(places, np.int64).reshape(-1, 3)
        tree.pages.keep(tree.ntuple, (cluster, column, _TABLE), kept)
    return kept


def _size(tree: Reading, cluster: int, column: int) -> int:
    """Elements of a column in a cluster."""
    return int(_table(tree, cluster, column)[0][-1])


def _check_size(tree: Reading, cluster: int, column: int, wanted: int, name: str) -> None:
    size = _size(tree, cluster, column)
    if size != wanted:
        raise DamagedError(f"cluster {cluster} has {size} elements of {name}; there are {wanted}")


def _elements(tree: Reading, cluster: int, column: int, first: int, last: int) -> NDArray[Any]:
    """Elements ``first`` to ``last`` of a column in a cluster, a copy."""
    metadata = tree.ntuple.get_field_metadata(column)
    out = np.empty(last - first, metadata.dtype_result)
    edges = _table(tree, cluster, column)[0]
    if not 0 <= first <= last <= edges[-1]:
        raise DamagedError(f"elements {first} to {last} of {edges[-1]} in cluster {cluster}")
    page = int(np.searchsorted(edges, first, "right")) - 1
    while first < last:
        begin, end = edges[page : page + 2].tolist()
        stop = min(end, last)
        part = out[len(out) - (last - first) :][: stop - first]
        keep = worth_keeping(end - begin, len(out))
        _read_page(tree, (cluster, column, page), end - begin, first - begin, part, keep=keep)
        first, page = stop, page + 1
    return out


def _read_page(
    tree: Reading,
    key: tuple[int, int, int],
    elements: int,
    first: int,
    out: NDArray[Any],
    *,
    keep: bool,
) -> None:
    """Elements of a page from its ``first`` on, into ``out``. keep: all of it for later."""
    kept = tree.pages.get(tree.ntuple, key)
    if kept is not None:
        out[:] = kept[0][first : first + len(out)]
        return
    if keep:
        whole = np.empty(elements, out.dtype)
        _decode(tree, key, elements, 0, whole)
        tree.pages.keep(tree.ntuple, key, (whole,))
        out[:] = whole[first : first + len(out)]
    else:
        _decode(tree, key, elements, first, out)


def _decode(
    tree: Reading, key: tuple[int, int, int], elements: int, first: int, out: NDArray[Any]
) -> None:
    metadata = tree.ntuple.get_field_metadata(key[1])
    dtype = np.dtype(metadata.dtype)
    simple = metadata.dtype_str not in ("real32trunc", "real32quant", "switch")
    if dtype == out.dtype and simple and dtype.kind in "iufb":
        try:
            return _decode_numbers(tree, key, elements, first, out)
        except UnusualError:
            pass  # uproot reads it, or says why not
    values = np.empty(elements, out.dtype)
    tree.ntuple.read_page(values, *key, metadata)
    if dtype != out.dtype:
        values[:] = values.view(dtype)[:elements].copy()
    # differences start anew in each page, so this sums them as it should
    tree.ntuple.post_process(values, metadata)
    out[:] = values[first : first + len(out)]
    return None


def _decode_numbers(
    tree: Reading, key: tuple[int, int, int], elements: int, first: int, out: NDArray[Any]
) -> None:
    metadata, last = tree.ntuple.get_field_metadata(key[1]), first + len(out)
    width = out.dtype.itemsize
    data = _uncompressed(tree, key, -(-elements // 8) if metadata.isbit else elements * width)
    if metadata.isbit:
        bits = data[first // 8 : -(-last // 8)]
        out[:] = np.unpackbits(bits, bitorder="little")[first % 8 :][: len(out)]
        return
    begin = 0 if metadata.delta else first  # each difference is of the one before
    values = out if begin == first else np.empty(last, out.dtype)
    numbers = values.view(f"u{width}")
    if metadata.split:
        join_bytes(data, elements, begin, numbers)
    else:
        numbers[:] = data.view(f"<u{width}")[begin:last]
    if metadata.zigzag:
        undo_zigzag(numbers)
    if metadata.delta:
        np.cumsum(values, out=values)
        if values is not out:
            out[:] = values[first:]


def _uncompressed(tree: Reading, key: tuple[int, int, int], length: int) -> Bytes:
    """The bytes of a page, until the scratch room is used again."""
    cluster, column, number = key
    offset, size, checksum = _table(tree, cluster, column)[1][number].tolist()
    source = tree.ntuple.file.source
    check_place(offset, size, tree.ntuple.file.fEND)
    stored = tree.scratch.room("stored", size + checksum)
    if read := getattr(source, "read_into", None):
        read(offset, stored.data)
    else:
        stored[:] = source.chunk(offset, offset + size + checksum).raw_data
    if checksum:
        compare(stored, f"page at byte {offset}")
    stored = stored[:size]
    if size == length:
        return stored
    if size > length:
        raise UnusualError(f"a page of {size} bytes for {length}")
    return uncompressed(stored.data, tree.scratch.room("data", length))


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    if not parts:
        return np.empty(0, np.float32)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
