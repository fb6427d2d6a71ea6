"""Columns of an RNTuple page by page: what an entry range costs does not depend on its cluster.

uproot decodes the whole cluster around an entry range, which may be the whole file. Here only the
pages that hold the range are decoded, by uproot's own functions, and a page that reaches beyond it
is kept for the next range. (RNTuple binary format, version 1.0: "Page list envelope", "Column
encodings"; offsets of lists count from the start of their cluster.)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.files.baskets import DamagedError, check_offsets
from hepdata_adapters.common.files.decoded_cache import DecodedCache, worth_keeping
from hepdata_adapters.common.files.schema import Branch


def read_pages(
    ntuple: Any, branch: Branch, start: int, stop: int, pages: DecodedCache
) -> Column | None:
    """Entries ``start`` to ``stop`` of a branch, in the dtype of the file.

    None for a branch whose columns are not there in all clusters, or of another kind: uproot
    knows how. Raises DamagedError where pages, offsets and entries do not fit each other.
    """
    columns = branch.columns
    clusters = list(_clusters(ntuple, start, stop))
    if not columns or not all(_plain(ntuple, cluster, columns) for cluster, *_ in clusters):
        return None
    if branch.kind != "jagged":
        size = branch.size
        parts = []
        for cluster, first, last, entries in clusters:
            _check_size(ntuple, cluster, columns[0], entries * size, branch.name)
            parts.append(_elements(ntuple, cluster, columns[0], first * size, last * size, pages))
        values = _joined(parts)
        return values.reshape(-1, size) if branch.kind == "array" else values
    contents: list[NDArray[Any]] = []
    ends = [np.zeros(1, np.int64)]
    for cluster, first, last, entries in clusters:
        _check_size(ntuple, cluster, columns[0], entries, branch.name)
        before = first - 1 if first else 0
        offsets = _elements(ntuple, cluster, columns[0], before, last, pages).astype(np.int64)
        offsets = offsets if first else np.concatenate((np.zeros(1, np.int64), offsets))
        check_offsets(offsets, _size(ntuple, cluster, columns[1]), f"the lists of {branch.name}")
        low, high = int(offsets[0]), int(offsets[-1])
        contents.append(_elements(ntuple, cluster, columns[1], low, high, pages))
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


def _size(ntuple: Any, cluster: int, column: int) -> int:
    """Elements of a column in a cluster."""
    return sum(page.num_elements for page in ntuple.page_link_list[cluster][column].pages)


def _check_size(ntuple: Any, cluster: int, column: int, wanted: int, name: str) -> None:
    size = _size(ntuple, cluster, column)
    if size != wanted:
        raise DamagedError(f"cluster {cluster} has {size} elements of {name}; there are {wanted}")


def _elements(
    ntuple: Any, cluster: int, column: int, first: int, last: int, pages: DecodedCache
) -> NDArray[Any]:
    """Elements ``first`` to ``last`` of a column in a cluster, a copy."""
    descriptions = ntuple.page_link_list[cluster][column].pages
    edges = [0, *np.cumsum([page.num_elements for page in descriptions], dtype=np.int64).tolist()]
    parts = []
    for number, (begin, end) in enumerate(pairwise(edges)):
        if begin >= last or end <= first:
            continue
        kept = pages.get(ntuple, (cluster, column, number))
        page = kept[0] if kept else _page(ntuple, cluster, column, number, end - begin)
        used = min(end, last) - max(begin, first)
        if not kept and worth_keeping(end - begin, used):
            pages.keep(ntuple, (cluster, column, number), (page,))
        parts.append(page[max(first - begin, 0) : last - begin])
    metadata = ntuple.get_field_metadata(column)
    return _joined(parts, metadata.dtype_result)


def _page(ntuple: Any, cluster: int, column: int, number: int, elements: int) -> NDArray[Any]:
    metadata = ntuple.get_field_metadata(column)
    values = np.empty(elements, metadata.dtype_result)
    ntuple.read_page(values, cluster, column, number, metadata)
    if metadata.dtype != metadata.dtype_result:
        values[:] = values.view(metadata.dtype)[:elements].copy()
    # differences start anew in each page, so this sums them as it should
    ntuple.post_process(values, metadata)
    return values


def _joined(parts: list[NDArray[Any]], dtype: Any = None) -> NDArray[Any]:
    if not parts:
        return np.empty(0, dtype or np.float32)
    return parts[0].copy() if len(parts) == 1 else np.concatenate(parts)
