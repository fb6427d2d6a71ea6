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
from hepdata_adapters.common.files.baskets import check_branch, check_offsets
from hepdata_adapters.common.files.count_branches import Place
from hepdata_adapters.common.files.decoded_cache import DecodedCache
from hepdata_adapters.common.files.ntuple_pages import read_pages
from hepdata_adapters.common.files.schema import Branch, is_rntuple


def read_columns(
    tree: Any, branches: Sequence[Branch], start: int, stop: int, kept: DecodedCache | None = None
) -> Columns:
    """Entries ``start`` to ``stop`` of the branches, as columns of their native dtypes.

    All are asked for at once, so that the reads of a remote file are joined. kept: decoded pages
    that reach beyond a range.
    """
    by_page: Columns = {}
    if is_rntuple(tree) and stop > start:
        pages = DecodedCache(0) if kept is None else kept
        for branch in branches:
            column = read_pages(tree, branch, start, stop, pages)
            if column is not None:
                by_page[branch.name] = _native(column, branch)
    rest = [branch for branch in branches if branch.name not in by_page]
    read = _read_ntuple if is_rntuple(tree) else _read_ttree
    arrays = read(tree, [branch.place for branch in rest], start, stop) if rest else []
    others = {branch.name: _column(a, branch) for branch, a in zip(rest, arrays, strict=True)}
    return {branch.name: (by_page | others)[branch.name] for branch in branches}


def _native(column: Column, branch: Branch) -> Column:
    dtype = np.dtype(branch.dtype)
    if isinstance(column, Jagged):
        return Jagged(np.ascontiguousarray(column.content, dtype), column.offsets)
    return np.ascontiguousarray(column, dtype)


def _read_ttree(tree: Any, places: Sequence[Place], start: int, stop: int) -> list[Any]:
    branches = [reduce(lambda parent, at: parent.branches[at], place, tree) for place in places]
    for branch in branches:
        check_branch(branch, start, stop)
    ranges = {
        place
        for branch in branches
        for _, place in branch.entries_to_ranges_or_baskets(start, stop)
        if isinstance(place, tuple)  # else a basket that came with the tree
    }
    ahead = getattr(tree.file.source, "ahead", None)
    options = {"entry_start": start, "entry_stop": stop, "array_cache": None, "library": "ak"}
    with ahead(ranges) if ahead else nullcontext():
        return [branch.array(**options) for branch in branches]


def _read_ntuple(tree: Any, places: Sequence[Place], start: int, stop: int) -> list[Any]:
    wanted = {".".join(map(str, place)) for place in places}
    found = tree.arrays(
        filter_field=lambda field: field.path in wanted, how=dict,
        entry_start=start, entry_stop=stop, array_cache=None, library="ak",
    )  # fmt: skip
    # members of records come inside their record
    return [reduce(lambda array, name: array[name], place, found) for place in places]


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
