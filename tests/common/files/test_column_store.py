"""Columns as one Arrow file: what comes back is what went in, to the byte, as views of the file."""

from __future__ import annotations

import mmap
import tempfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hepdata_adapters.common.core.columns import Column, Columns, Jagged, offsets_from_lengths
from hepdata_adapters.common.core.errors import MissingExtraError
from hepdata_adapters.common.files import column_store
from hepdata_adapters.common.files.column_store import packed, unpacked

pyarrow = pytest.importorskip("pyarrow")
DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "longdouble", ">f4", ">i8",
]  # fmt: skip


def mapped(content: memoryview) -> mmap.mmap:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return mmap.mmap(file.fileno(), len(content), access=mmap.ACCESS_COPY)


def parts(column: Column) -> list[np.ndarray]:
    return [column.content, column.offsets] if isinstance(column, Jagged) else [column]


def check_same(found: Columns, expected: Columns) -> None:
    """The same names in the same order, dtypes, shapes and bytes, and the same offsets shared."""
    assert list(found) == list(expected)
    for name, column in expected.items():
        for one, other in zip(parts(found[name]), parts(column), strict=True):
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
            assert one.tobytes() == other.tobytes(), name
    lists = [name for name, column in expected.items() if isinstance(column, Jagged)]
    for one in lists:
        for other in lists:
            shared = [pair[one].offsets is pair[other].offsets for pair in (found, expected)]
            assert shared[0] == shared[1], (one, other)


@st.composite
def columns_of(draw: Any) -> Columns:
    rows = draw(st.integers(0, 6))
    offsets = [
        offsets_from_lengths(draw(arrays.arrays(np.int64, rows, elements=st.integers(0, 3))))
        for _ in range(2)
    ]
    columns: Columns = {}
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["flat", "array", "jagged"]))
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
        which = draw(st.sampled_from(offsets))
        shape = {"flat": rows, "array": (rows, draw(st.integers(1, 3))), "jagged": which[-1]}
        size = int(np.prod(shape[kind])) * dtype.itemsize
        # any bytes: NaN with a payload, and bool of other bytes than 0 and 1
        drawn = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
        values = drawn.view(dtype).reshape(shape[kind])
        name = f"{number}{draw(st.sampled_from(['', '#read', '/é', '.pt']))}"
        columns[name] = Jagged(values, which) if kind == "jagged" else values
    return columns


@given(columns_of())
def test_every_column_comes_back_as_it_was(columns: Columns) -> None:
    content = packed(columns)
    check_same(unpacked(mapped(content)), columns)
    assert bytes(packed(columns)) == bytes(content)  # two writers write the same


def test_the_arrays_are_views_of_the_file_that_may_be_written_to() -> None:
    columns = {"MET": np.arange(5.0), "Jet_pt": Jagged.from_lists([[1.0], [], [2.0], [], []])}
    with tempfile.NamedTemporaryFile() as file:
        file.write(packed(columns))
        file.flush()
        memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        found = unpacked(memory)
        for column in found.values():
            for array in parts(column):
                assert array.flags.writeable and array.flags.aligned  # noqa: PT018
                assert not array.flags.owndata
                array[:] = 7
        again = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        check_same(unpacked(again), columns)  # the file stays as it was


def test_any_reader_of_arrow_can_open_it(tmp_path) -> None:
    import pyarrow.feather

    pt = Jagged.from_lists([[30.0, 25.0], [], [41.0]])
    columns = {"MET": np.array([1.0, 2.0, 3.0], np.float32), "Jet_pt": pt}
    columns |= {"Jet_id": Jagged(np.array([1, 2, 3], np.int8), pt.offsets)}
    path = tmp_path / "unit.arrow"
    path.write_bytes(packed(columns))
    table = pyarrow.feather.read_table(path)
    assert table["MET"].to_pylist() == [1, 2, 3]
    assert table["lists 0"].to_pylist() == [
        [{"Jet_pt": 30, "Jet_id": 1}, {"Jet_pt": 25, "Jet_id": 2}],
        [],
        [{"Jet_pt": 41, "Jet_id": 3}],
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"x" * 1000])
def test_what_is_no_such_file_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (Arrow's own)
        unpacked(mapped(memoryview(content or b"\0")))


def test_an_arrow_file_of_others_is_a_value_error() -> None:
    sink = pyarrow.BufferOutputStream()
    batch = pyarrow.record_batch({"x": [1, 2]})
    with pyarrow.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="no columns of this version"):
        unpacked(mapped(memoryview(sink.getvalue())))


def test_without_pyarrow_the_error_is_the_install_command(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.ipc", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hepdata-adapters\[parquet\]"'):
        column_store.check_arrow()
