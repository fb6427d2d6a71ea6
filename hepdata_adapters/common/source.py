"""Reading entry ranges of trees as columns. Open files and decoded units are kept, bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hepdata_adapters.common.columns import Column, Columns, Jagged
from hepdata_adapters.common.errors import FileError, InvalidValueError
from hepdata_adapters.common.manifest import FileInfo
from hepdata_adapters.common.remote import open_root, reading
from hepdata_adapters.common.schema import Branch, get_tree, is_rntuple
from hepdata_adapters.common.unreadable import read_each

MAX_OPEN_FILES = 64
MAX_CACHED_BYTES = 512 * 2**20


class Source:
    """Reads columns; belongs to one process (open it after the fork).

    branches: names of the branches to read, the same for all files.
    """

    def __init__(
        self,
        branches: Sequence[str],
        max_open: int = MAX_OPEN_FILES,
        max_bytes: int = MAX_CACHED_BYTES,
    ) -> None:
        self.branches = tuple(dict.fromkeys(branches))
        self._max_open, self._max_bytes = max_open, max_bytes
        self._open: OrderedDict[tuple[str, str], tuple[Any, Any]] = OrderedDict()
        self._units: OrderedDict[tuple[str, str, int], tuple[Columns, int]] = OrderedDict()
        self._bytes = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and forget all units."""
        while self._open:
            self._open.popitem()[1][0].close()
        self._units.clear()
        self._bytes = 0

    @property
    def cached_bytes(self) -> int:
        """Bytes of the units kept."""
        return self._bytes

    def unit(self, file: FileInfo, number: int) -> Columns:
        """All columns of one unit of a file, from the cache if it is there."""
        name = (file.url, file.tree, number)
        if name in self._units:
            self._units.move_to_end(name)
            return self._units[name][0]
        columns = self.read(file, int(file.units[number]), int(file.units[number + 1]))
        size = sum(column.nbytes for column in columns.values())
        self._units[name] = (columns, size)
        self._bytes += size
        while self._bytes > self._max_bytes and len(self._units) > 1:
            self._bytes -= self._units.popitem(last=False)[1][1]
        return columns

    def read(self, file: FileInfo, start: int, stop: int) -> Columns:
        """Columns of entries ``start`` to ``stop``, the derived ones computed.

        Raises FileError with the entry range, InvalidValueError where branches that should share
        a count do not.
        """
        tree = self._tree(file)
        branches = [file.branch(name) for name in file.preparation.needs(self.branches)]
        place = {"file": file.url, "tree": file.tree, "entries": (start, stop)}
        try:
            with reading(**place):
                columns = read_columns(tree, branches, start, stop)
        except FileError:
            read_each(lambda few: read_columns(tree, few, start, stop), branches, place)
            raise
        try:
            columns = file.preparation(columns, self.branches)
        except InvalidValueError as error:
            raise error.at(file.url, file.tree, start) from None
        for name, column in columns.items():
            if len(column) != stop - start:
                raise FileError(
                    f"{len(column)} values read for {stop - start} entries",
                    file=file.url, tree=file.tree, branch=name, entries=(start, stop),
                )  # fmt: skip
        return columns

    def _tree(self, file: FileInfo) -> Any:
        name = (file.url, file.tree)
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name][1]
        directory = open_root(file.url)
        if str(directory.file.uuid) != file.uuid:
            directory.close()
            raise FileError("the file was replaced since the manifest was made", file=file.url)
        with reading(file=file.url, tree=file.tree):
            tree = get_tree(directory, file.tree, file.url)
        self._open[name] = (directory, tree)
        while len(self._open) > self._max_open:
            self._open.popitem(last=False)[1][0].close()
        return tree


def read_columns(tree: Any, branches: Sequence[Branch], start: int, stop: int) -> Columns:
    """Entries ``start`` to ``stop`` of the branches, as columns of their native dtypes.

    All branches are asked for at once, so that uproot can join the reads of a remote file.
    """
    names = [branch.name for branch in branches]
    options = {"entry_start": start, "entry_stop": stop, "array_cache": None, "library": "ak"}
    # objects, not names: uproot would evaluate names as expressions
    if is_rntuple(tree):
        wanted = set(names)
        found = tree.arrays(filter_field=lambda field: field.path in wanted, how=dict, **options)
        arrays = {name: _member(found, name) for name in names}
    else:
        chosen = {id(tree[name]): name for name in names}
        values = tree.arrays(filter_branch=lambda branch: id(branch) in chosen, how=list, **options)
        order = [id(branch) for branch in tree.itervalues(recursive=True) if id(branch) in chosen]
        arrays = {chosen[key]: array for key, array in zip(order, values, strict=True)}
    return {branch.name: _column(arrays[branch.name], branch) for branch in branches}


def _member(arrays: Mapping[str, Any], name: str) -> Any:
    """The array of an RNTuple field; members of records come inside their record."""
    if name in arrays:
        return arrays[name]
    first, *rest = name.split(".")
    array = arrays[first]
    for part in rest:
        array = array[part]
    return array


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
    content = ak.to_numpy(layout.content[: int(offsets[-1])], allow_missing=False)
    return Jagged(np.ascontiguousarray(content, dtype=dtype), offsets)
