"""Values of branches, read from the very objects that hold them: no name leads to another branch.

uproot's `tree.arrays` evaluates short names, so that ``electron/pt`` would give the values of
whatever ``pt`` comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import reduce
from typing import Any

import numpy as np

from hepdata_adapters.common.core.columns import Column, Columns, Jagged
from hepdata_adapters.common.core.threads import shared_out
from hepdata_adapters.common.files.basket_reader import BranchRange, read_baskets
from hepdata_adapters.common.files.baskets import check_branch, check_offsets, find_baskets
from hepdata_adapters.common.files.compression import Scratch
from hepdata_adapters.common.files.decoded_cache import DecodedCache
from hepdata_adapters.common.files.ntuple_pages import find_metadata, read_pages
from hepdata_adapters.common.files.schema import Branch, is_rntuple


def read_columns(
    tree: Any,
    branches: Sequence[Branch],
    start: int,
    stop: int,
    kept: DecodedCache | None = None,
    threads: int = 1,
) -> Columns:
    """Entries ``start`` to ``stop`` of the branches, as columns of their native dtypes.

    All are asked for at once, so that the reads of a remote file are joined. kept: decoded pages
    that reach beyond a range.
    """
    kept = DecodedCache(0) if kept is None else kept
    read = _read_ntuple if is_rntuple(tree) else _read_ttree
    columns = read(tree, branches, start, stop, kept, threads)
    return {branch.name: column for branch, column in zip(branches, columns, strict=True)}


def _read_ttree(
    tree: Any, branches: Sequence[Branch], start: int, stop: int, kept: DecodedCache, threads: int
) -> list[Column]:
    holders = [
        reduce(lambda parent, at: parent.branches[at], branch.place, tree) for branch in branches
    ]
    wanted = [
        BranchRange(holder, find_baskets(holder, start, stop), start, stop, tree, kept)
        for holder in holders
    ]
    ahead = getattr(tree.file.source, "ahead", None)
    ranges = {place for each in wanted for place in each.places()} if ahead else set()
    with ahead(ranges) if ahead else nullcontext():
        return [
            _by_uproot(holder, branch, start, stop) if column is None else column
            for holder, branch, column in zip(
                holders, branches, read_baskets(wanted, threads), strict=True
            )
        ]


def _by_uproot(holder: Any, branch: Branch, start: int, stop: int) -> Column:
    check_branch(holder, start, stop)
    array = holder.array(entry_start=start, entry_stop=stop, array_cache=None, library="ak")
    return _column(array, branch)


def _read_ntuple(
    tree: Any, branches: Sequence[Branch], start: int, stop: int, kept: DecodedCache, threads: int
) -> list[Column]:
    find_metadata(tree, branches)
    scratch = Scratch()
    columns = shared_out(
        lambda branch: read_pages(tree, branch, start, stop, kept, scratch), branches, threads
    )
    rest = [branch for branch, column in zip(branches, columns, strict=True) if column is None]
    others = iter(_whole_clusters(tree, rest, start, stop) if rest else ())
    return [
        next(others) if column is None else _native(column, branch)
        for branch, column in zip(branches, columns, strict=True)
    ]


def _whole_clusters(tree: Any, branches: Sequence[Branch], start: int, stop: int) -> list[Column]:
    wanted = {".".join(map(str, branch.place)) for branch in branches}
    found = tree.arrays(
        filter_field=lambda field: field.path in wanted, how=dict,
        entry_start=start, entry_stop=stop, array_cache=None, library="ak",
    )  # fmt: skip
    # members of records come inside their record
    return [
        _column(reduce(lambda array, name: array[name], branch.place, found), branch)
        for branch in branches
    ]


def _native(column: Column, branch: Branch) -> Column:
    dtype = np.dtype(branch.dtype)
    if isinstance(column, Jagged):
        return Jagged(np.ascontiguousarray(column.content, dtype), column.offsets)
    return np.ascontiguousarray(column, dtype)


def _column(array: Any, branch: Branch) -> Column:
    import awkward as ak

    dtype = np.dtype(branch.dtype)
    if branch.kind != "jagged":
        values = np.ascontiguousarray(ak.to_numpy(array, allow_missing=False), dtype=dtype)
        return values.reshape(len(values), branch.size) if branch.kind == "array" else values
    layout = ak.to_layout(array)
    if not isinstance(layout, ak.contents.ListOffsetArray):
        layout = layout.to_packed()
    layout = layout.to_ListOffsetArray64(True)
    offsets = np.asarray(layout.offsets.data, np.int64)
    check_offsets(offsets, len(layout.content))
    content = ak.to_numpy(layout.content[: int(offsets[-1])], allow_missing=False)
    return Jagged(np.ascontiguousarray(content, dtype=dtype), offsets)
