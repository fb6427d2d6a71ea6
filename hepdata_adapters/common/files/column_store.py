"""Columns of a unit as one Arrow file (Feather, uncompressed) that is mapped into memory.

A column of numbers is an Arrow column of its name, an array of k numbers a fixed-size list, and
lists that share their offsets are one list of records: offsets lie there once. Any reader of Arrow
can open it. Nothing is decoded here: the arrays are views of the mapped file, private to the
process, so that they may be written to and the file stays as it is.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Array, Column, Columns, Jagged
from hepdata_adapters.common.core.errors import MissingExtraError

FORMAT = 1
"""Of the file. What is kept in another one is not found: see `unit_folder.entry_name`."""
_LAYOUT = b"hepdata_adapters"


class _Place(NamedTuple):
    """Where a column is. data, offsets: numbers of Arrow buffers; offsets is -1 of no lists."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    data: int
    offsets: int


def check_arrow() -> None:
    """Raise MissingExtraError, which says what to install, where there is no pyarrow."""
    try:
        import pyarrow.ipc  # noqa: F401
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "which keeps columns on disk") from None


def packed(columns: Mapping[str, Column]) -> memoryview:
    """The file of columns of equally many events, as bytes; the same for the same columns.

    Every dtype of numpy's numbers is kept as it is, and who shares offsets with whom.
    """
    import pyarrow as pa

    layout, fields, arrays = [], [], []
    groups: dict[tuple[int, int], list[str]] = {}
    for name, column in columns.items():
        if isinstance(column, Jagged):
            groups.setdefault((id(column.offsets), len(column.content)), []).append(name)
        else:
            fields.append(name)
            arrays.append(_arrow(column))
    numbers = {name: number for number, names in enumerate(groups.values()) for name in names}
    for number, names in enumerate(groups.values()):
        lists = [column for name in names if isinstance(column := columns[name], Jagged)]
        contents = [_arrow(column.content) for column in lists]
        alone = len(names) == 1
        fields.append(names[0] if alone else f"lists {number}")
        arrays.append(
            pa.LargeListArray.from_arrays(
                _arrow(lists[0].offsets),
                contents[0] if alone else pa.StructArray.from_arrays(contents, names=names),
            )
        )
    for name, column in columns.items():
        values = column.content if isinstance(column, Jagged) else column
        layout.append([name, values.dtype.str, values.shape[1:], numbers.get(name, -1)])
    document = json.dumps({"format": FORMAT, "columns": layout}, separators=(",", ":"))
    batch = pa.record_batch(arrays, names=fields).replace_schema_metadata({_LAYOUT: document})
    size = pa.MockOutputStream()  # counts: a sink that grows would copy all of it again
    _write(batch, size)
    content = np.empty(size.size(), np.uint8)
    _write(batch, pa.FixedSizeBufferWriter(pa.py_buffer(content)))
    return content.data


def _write(batch: Any, sink: Any) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def _arrow(values: Array) -> Any:
    """An Arrow array of the very memory of values ``(n, …)``: numbers, lists of k of them."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    dtype, width = values.dtype, prod(values.shape[1:])
    if dtype == np.bool_:
        kind = pa.uint8()  # a byte each, as in memory; Arrow packs its own into bits
    elif dtype.isnative and dtype.itemsize <= 8:
        kind = pa.from_numpy_dtype(dtype)
    else:
        kind = pa.binary(dtype.itemsize)
    memory = pa.py_buffer(values.reshape(-1).view(np.uint8))
    flat = pa.Array.from_buffers(kind, values.size, [None, memory])
    return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def unpacked(memory: mmap.mmap) -> Columns:
    """The columns of a mapped file, as views of it; lists share offsets as they did.

    Raises ValueError (of which Arrow's own errors are) for what is not such a file.
    """
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(use_threads=False)
    reader = pa.ipc.open_file(pa.py_buffer(memory), options=options)
    places = _places((reader.schema.metadata or {}).get(_LAYOUT, b"{}"))
    batch = reader.get_batch(0)
    rows, buffers = batch.num_rows, batch.to_struct_array().buffers()
    start = np.frombuffer(memory, np.uint8).ctypes.data

    def view(number: int, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        if not count:
            return np.zeros(0, dtype)
        return np.frombuffer(memory, dtype, count, buffers[number].address - start)

    shared: dict[int, NDArray[np.int64]] = {}
    columns: Columns = {}
    for name, dtype, shape, data, number in places:
        if number < 0:
            values = view(data, dtype, rows * prod(shape))
            columns[name] = values.reshape(rows, *shape) if shape else values
            continue
        if number not in shared:
            shared[number] = view(number, np.dtype(np.int64), rows + 1)
        offsets = shared[number]
        columns[name] = Jagged(view(data, dtype, int(offsets[-1])), offsets)
    return columns


@lru_cache(maxsize=64)  # the units of a data set are alike
def _places(document: bytes) -> tuple[_Place, ...]:
    """Where the columns are, in their order. Raises ValueError for what is no layout of ours."""
    found = json.loads(document)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError("it holds no columns of this version")
    columns = [(n, np.dtype(d), tuple(s), int(group)) for n, d, s, group in found["columns"]]
    if not all(dtype.kind in "biuf" for _, dtype, _, _ in columns):
        raise ValueError("it holds columns that are no numbers")
    data, offsets = {}, {}
    buffer = 1  # the first is the validity of the whole: as each, it is empty
    for name, _, shape, group in columns:
        if group < 0:
            buffer += 1 + bool(shape)
            data[name] = buffer
            buffer += 1
    for group in sorted({group for *_, group in columns if group >= 0}):
        members = [name for name, _, _, other in columns if other == group]
        offsets[group] = buffer + 1
        buffer += 2 + (len(members) > 1)
        for name in members:
            data[name] = buffer + 1
            buffer += 2
    return tuple(
        _Place(name, dtype, shape, data[name], offsets.get(group, -1))
        for name, dtype, shape, group in columns
    )
