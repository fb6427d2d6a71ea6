"""Baskets read by us and by uproot: the same bits, and the same refusals."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.damage.flips import flip, time_limit
from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core import threads as threads_room
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files import basket_kernels, basket_reader, compression, read
from hepdata_adapters.common.files.basket_reader import BranchRange, layout_of, read_baskets
from hepdata_adapters.common.files.baskets import DamagedError, check_header, find_baskets
from hepdata_adapters.common.files.compression import UnusualError
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.files.open import open_root, reading
from hepdata_adapters.common.files.schema import Branch, get_tree, read_schema, tree_names
from hepdata_adapters.common.files.source import Source

ROOT = Path(__file__).parents[3]
FILES = sorted([*(ROOT / "tests/data").glob("*.root"), *(ROOT / "examples/data").glob("*.root")])
VECTORS = ROOT / "tests/data/vectors.root"  # written by ROOT, as uproot writes no std::vector
COMPRESSIONS = {
    "none": None, "ZSTD": uproot.ZSTD(3), "LZ4": uproot.LZ4(2), "ZLIB": uproot.ZLIB(1),
    "LZMA": uproot.LZMA(1),
}  # fmt: skip
DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float32", "float64",
)  # fmt: skip


def same(one: Column, other: Column) -> bool:
    """Whether two columns are the same to the bit, dtype and shape included."""
    if isinstance(one, Jagged) or isinstance(other, Jagged):
        return (
            isinstance(one, Jagged)
            and isinstance(other, Jagged)
            and one.offsets[0] == 0
            and same(one.content, other.content)
            and same(one.offsets, other.offsets)
        )
    assert one.flags.c_contiguous
    assert one.dtype.isnative
    return (one.dtype, one.shape) == (other.dtype, other.shape) and (
        one.tobytes() == other.tobytes()
    )


def holders(tree: Any) -> list[tuple[Branch, Any]]:
    """The readable branches of a TTree, as we and as uproot have them."""
    return [
        (branch, reduce(lambda parent, at: parent.branches[at], branch.place, tree))
        for branch in read_schema(tree).values()
        if branch.readable
    ]


def by_us(
    pairs: list[tuple[Branch, Any]], start: int, stop: int, threads: int = 1
) -> list[Column | None]:
    wanted = [
        BranchRange(holder, find_baskets(holder, start, stop), start, stop) for _, holder in pairs
    ]
    return read_baskets(wanted, threads)


def compare(path: Path, *ranges: tuple[int, int]) -> tuple[int, list[str], list[str]]:
    """Branches of all TTrees of a file: how many, those that differ, those left to uproot."""
    count, different, left = 0, [], []
    with open_root(str(path)) as directory:
        for name in tree_names(directory):
            tree = get_tree(directory, name, str(path))
            if read.is_rntuple(tree):
                continue
            pairs, entries = holders(tree), int(tree.num_entries)
            count += len(pairs)
            for start, stop in ((0, entries), *ranges):
                part = min(start, entries), min(stop, entries)
                found = by_us(pairs, *part)
                for (branch, holder), column in zip(pairs, found, strict=True):
                    what = f"{name} {branch.name} {part}"
                    if column is None:
                        left.append(what)
                    elif not same(column, read._by_uproot(holder, branch, *part)):
                        different.append(what)
    return count, different, left


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_branch_is_that_of_uproot(path: Path) -> None:
    count, different, left = compare(path, (3, 17), (5, 5), (700, 1333))
    assert count or path.name == "checksums-rntuple.root"
    assert not different
    assert not left


def test_every_branch_of_files_of_others(shared_data: Path) -> None:
    total = 0
    for path in sorted(shared_data.glob("*.root")):
        count, different, left = compare(path, (7, 150), (1999, 2001))
        assert (different, left) == ([], []), path
        total += count
    assert total > 1000


def test_vectors_are_among_them() -> None:
    with open_root(str(VECTORS)) as directory:
        pairs = holders(get_tree(directory, "Events", "f"))
        layouts = [layout_of(holder) for _, holder in pairs]
        assert sum(layout is not None and layout.header == 10 for layout in layouts) == 7
        assert all(holder.num_baskets > 3 for _, holder in pairs)


def test_baskets_that_came_with_the_tree() -> None:
    with open_root(str(VECTORS)) as directory:
        for pair in holders(get_tree(directory, "Events", "f")):
            whole, uproots = by_us([pair], 0, 300)[0], pair[1]
            baskets = find_baskets(uproots, 0, 300)
            kept = [basket._replace(kept=uproots.basket(basket.number)) for basket in baskets[-2:]]
            wanted = BranchRange(uproots, [*baskets[:-2], *kept], 0, 300)
            (column,) = read_baskets([wanted])
            assert whole is not None
            assert column is not None
            assert same(column, whole)
            assert len(wanted.places()) == len(baskets) - 2


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[str, str], list[dict[str, Any]], str]:
    """Types of branches, what is written in each piece, and a compression."""
    dtypes = draw(st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4))
    kinds = [draw(st.sampled_from(["flat", "array", "jagged"])) for _ in dtypes]
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    pieces = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    largest = draw(st.sampled_from([0, 1, 4, 40]))
    repetitive = draw(st.booleans())
    types: dict[str, Any] = {}
    arrays: list[dict[str, Any]] = [{} for _ in pieces]
    for number, (kind, name) in enumerate(zip(kinds, dtypes, strict=True)):
        branch, dtype = f"b{number}", np.dtype(name)
        types[branch] = {
            "flat": name, "array": np.dtype((name, (3,))), "jagged": f"var * {name}"
        }[kind]  # fmt: skip

        def bits(count: int, dtype: np.dtype[Any] = dtype) -> np.ndarray:
            if dtype.kind == "b":
                return random.random(count) < 0.5
            raw = random.integers(0, 2 if repetitive else 256, count * dtype.itemsize, np.uint8)
            return raw.view(dtype)

        for events, piece in zip(pieces, arrays, strict=True):
            if kind == "jagged":
                counts = random.integers(0, largest + 1, events)
                piece[branch] = ak.unflatten(bits(int(counts.sum())), counts)
            else:
                values = bits(events * (3 if kind == "array" else 1))
                piece[branch] = values.reshape(events, 3) if kind == "array" else values
    return types, arrays, draw(st.sampled_from(sorted(COMPRESSIONS)))


def write_tree(path: Path, types: dict[str, Any], arrays: list[dict[str, Any]], how: str) -> int:
    with uproot.recreate(path, compression=COMPRESSIONS[how]) as file:
        file.mktree("t", types)
        for piece in arrays:
            file["t"].extend(piece)
        return int(file["t"].num_entries)


@given(trees(), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(
    tmp_path: Path, made: tuple[dict[str, str], list[dict[str, Any]], str], data: st.DataObject
) -> None:
    path = tmp_path / "a.root"
    entries = write_tree(path, *made)
    start = data.draw(st.integers(0, entries))
    stop = data.draw(st.integers(start, entries))
    count, different, left = compare(path, (start, stop))
    assert count >= len(made[0])
    assert not different
    assert not left


def vector_basket(lists: list[np.ndarray], header: bool = True) -> tuple[bytes, np.ndarray]:
    """Data of a basket of ``std::vector``, and where its lists end, as ROOT writes them."""
    parts, ends = [], [0]
    for values in lists:
        size = values.nbytes + 6
        head = struct.pack(">IHI", 0x40000000 | size, 9, len(values)) if header else b""
        parts.append(head + values.astype(values.dtype.newbyteorder(">")).tobytes())
        ends.append(ends[-1] + len(parts[-1]))
    return b"".join(parts), np.array(ends, np.int32)


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 60), min_size=1, max_size=50),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_lists_with_headers(dtype: str, counts: list[int], header: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    lists = [random.integers(0, 2, n).astype(dtype) for n in counts]
    data, ends = vector_basket(lists, header)
    raw = np.frombuffer(b"." + data + b".", np.uint8).copy()  # not aligned, as in a file
    first = int(random.integers(0, len(lists) + 1))
    last = int(random.integers(first, len(lists) + 1))
    offsets, content = np.zeros(last - first + 1, np.int64), np.empty(len(data), dtype)
    end = copy(raw, 1, ends, 10 if header else 0, first, last, offsets, content)
    assert end == sum(counts[first:last])
    assert np.diff(offsets).tolist() == counts[first:last]
    expected = np.concatenate([np.empty(0, dtype), *lists[first:last]])
    assert np.array_equal(content[:end], expected)


def copy(
    data: np.ndarray, start: int, ends: np.ndarray, header: int, first: int, last: int,
    offsets: np.ndarray, content: np.ndarray,
) -> int:  # fmt: skip
    return basket_kernels.copy_lists(
        data, start, int(ends[-1]), ends, header, first, last, offsets,
        content.view(f"u{content.dtype.itemsize}"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "width", "header"),
    [
        ([0, 8, 4], 4, 0), ([-4, 4, 8], 4, 0), ([4, 8], 4, 0), ([0, 6], 4, 0),
        ([0, 9, 24], 4, 10), ([0, 13], 4, 10), ([2, 16], 4, 10), ([0, 10, 8], 4, 10),
        ([0, 2_000_000_000, 8], 4, 0), ([0, 2_000_000_000], 4, 0), ([0, -8], 4, 0),
        ([0, 6, 12], 4, 0), ([0, -2_000_000_000, 8], 8, 0), ([0, 2_000_000_000, 24], 4, 10),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_are_left_to_uproot(ends: list[int], width: int, header: int) -> None:
    given = np.array(ends, np.int32)
    offsets, content = np.zeros(len(ends), np.int64), np.zeros(1000, f"u{width}")
    lists = len(ends) - 1
    data = np.zeros(32, np.uint8)
    assert copy(data, 0, given, header, 0, lists, offsets, content) == basket_kernels.UNUSUAL


@given(st.binary(max_size=90), st.lists(st.integers(0, 90), max_size=4), st.integers(0, 5))
def test_headers_of_any_bytes_are_refused_or_as_they_are_read_by_hand(
    raw: bytes, cuts: list[int], entries: int
) -> None:
    stored = np.frombuffer(raw, np.uint8).copy()
    starts = np.unique([0, len(raw), *(min(cut, len(raw)) for cut in cuts)]).astype(np.int64)
    count = len(starts) - 1
    headers = np.zeros((count, 3), np.int64)
    good = basket_kernels.read_headers(stored, starts, np.full(count, entries), headers)
    assert 0 <= good <= count
    for number in range(good):
        piece = raw[starts[number] : starts[number + 1]]
        found = check_header(lambda a, b, piece=piece: piece[a:b], len(piece), number, entries)
        assert tuple(found) == tuple(headers[number])
    if good < count:
        piece = raw[starts[good] : starts[good + 1]]
        with pytest.raises(DamagedError):
            check_header(lambda a, b: piece[a:b], len(piece), good, entries)


@pytest.mark.parametrize(
    "stored", [b"ZS", b"CS" + bytes(7), b"XX" + bytes(20), b"L4\x01" + b"\1" * 9]
)
def test_blocks_that_cannot_be_are_left_to_uproot(stored: bytes) -> None:
    with pytest.raises(UnusualError):
        compression.uncompressed(memoryview(stored), np.empty(9, np.uint8))


def test_several_blocks_of_one_basket(tmp_path: Path) -> None:
    """A block has at most 16 MiB."""
    values = np.arange(5_000_000, dtype=np.int32) // 3
    write_tree(tmp_path / "a.root", {"x": "int32"}, [{"x": values}], "ZSTD")
    with open_root(str(tmp_path / "a.root")) as directory:
        tree = get_tree(directory, "t", "a.root")
        assert tree["x"].num_baskets == 1
        (found,) = by_us(holders(tree), 4_100_000, 4_900_000)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, values[4_100_000:4_900_000])


def test_on_threads_and_without_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    arrays = {f"x{i}": random.normal(size=20_000) for i in range(6)}
    path = tmp_path / "a.root"
    write_tree(path, dict.fromkeys(arrays, "float64"), [arrays] * 2, "ZSTD")
    counts = []
    pool = threads_room.ThreadPoolExecutor

    def counted(count: int, *rest: Any) -> Any:
        counts.append(count)
        return pool(count, *rest)

    monkeypatch.setattr(threads_room, "ThreadPoolExecutor", counted)
    for threads in (1, 3):
        with open_root(str(path)) as directory:
            columns = by_us(holders(get_tree(directory, "t", "a.root")), 10, 30_000, threads)
        for column, values in zip(columns, arrays.values(), strict=True):
            assert np.array_equal(np.asarray(column), np.tile(values, 2)[10:30_000])
    assert counts == [2]  # and the thread that asks


@pytest.mark.parametrize("number", [0, 3, 5])
def test_an_error_on_a_thread_is_the_error(number: int, tmp_path: Path) -> None:
    arrays = {f"x{i}": np.random.default_rng(i).normal(size=20_000) for i in range(6)}
    path = tmp_path / "a.root"
    write_tree(path, dict.fromkeys(arrays, "float64"), [arrays], "ZSTD")
    with open_root(str(path)) as directory:
        pairs = holders(get_tree(directory, "t", "a.root"))
        (basket,) = find_baskets(pairs[number][1], 0, 20_000)
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"\1", basket.seek)
        with pytest.raises(DamagedError, match=r"basket 0 of \d+ bytes says it has"):
            by_us(pairs, 0, 20_000, threads=3)
    assert not [one for one in threading.enumerate() if one.name.startswith("hepdata")]


def fuzzed(path: Path, name: str, flips: int) -> tuple[int, int, int]:
    """Flip bits of baskets of a tree, one after the other: errors, values as before, and others.

    Ours must be those of uproot: an error for an error, and the same values.
    """
    whole, random = path.read_bytes(), np.random.default_rng(0)
    outcomes = [0, 0, 0]
    with open_root(str(path)) as directory, path.open("r+b", buffering=0) as file:
        tree = get_tree(directory, name, str(path))
        pairs, entries = holders(tree), int(tree.num_entries)
        start, stop = entries // 3, entries  # one basket in part
        truth = by_us(pairs, start, stop)
        for _ in range(flips):
            number = int(random.integers(len(pairs)))
            pair, (branch, holder) = pairs[number], pairs[number]
            baskets = find_baskets(holder, start, stop)
            basket = baskets[random.integers(len(baskets))]
            # half of them where the basket says what it is
            size = basket.size if random.random() < 0.5 else min(basket.size, 120)
            bit = int(random.integers(8 * size)) + 8 * basket.seek
            os.pwrite(file.fileno(), flip(whole[bit // 8 : bit // 8 + 1], bit % 8), bit // 8)

            ours = outcome(lambda pair=pair: by_us([pair], start, stop)[0])
            given = outcome(lambda b=branch, h=holder: read._by_uproot(h, b, start, stop))
            os.pwrite(file.fileno(), whole[bit // 8 : bit // 8 + 1], bit // 8)
            what = f"bit {bit} in basket {basket.number} of {branch.name}: {ours}, {given}"
            if isinstance(ours, str):
                assert ours == given, what
                outcomes[0] += 1
            elif ours is not None:
                assert not isinstance(given, str), what
                assert same(ours, given), what
                outcomes[1 if same(ours, truth[number]) else 2] += 1
            else:  # left to uproot
                outcomes[0] += isinstance(given, str)
    assert path.read_bytes() == whole
    return outcomes[0], outcomes[1], outcomes[2]


def outcome(work: Callable[[], Column | None]) -> Column | str | None:
    """What is read, or the text of our error; any other error, and a hang, go through."""
    try:
        with time_limit(), reading():
            return work()
    except FileError as error:
        return str(error)


@pytest.mark.parametrize("how", [*COMPRESSIONS, "ROOT"])
def test_flipped_bits_give_what_uproot_gives(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    if how == "ROOT":
        shutil.copy(VECTORS, path)
        errors, unharmed, other = fuzzed(path, "Events", 150)
    else:
        random = np.random.default_rng(1)
        counts = random.poisson(3, 300)
        values = random.exponential(30, counts.sum()).astype(np.float32)
        arrays = {
            "x": random.normal(size=300), "n": random.integers(0, 99, 300).astype(np.int16),
            "good": random.random(300) < 0.5, "pt": ak.unflatten(values, counts),
            "id": ak.unflatten(random.integers(0, 9, counts.sum(), np.int8), counts),
        }  # fmt: skip
        types = {
            "x": "float64", "n": "int16", "good": "bool", "pt": "var * float32",
            "id": "var * int8",
        }  # fmt: skip
        write_tree(path, types, [arrays, arrays], how)
        errors, unharmed, other = fuzzed(path, "t", 150)
    assert errors > 20
    assert unharmed > 5
    assert other > 10 or how not in ("none",)


def test_nothing_of_it_is_imported_before_it_is_needed() -> None:
    said = (
        "import hepdata_adapters, sys; print([m for m in ('cramjam', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_basket_of_many_units_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 M events in one basket took 34 s for specs: each unit decoded all of it."""
    path, size = tmp_path / "a.root", 300_000
    flat = np.arange(size, dtype=np.float32)
    lists = ak.unflatten(np.arange(2 * size, dtype=np.float32), np.full(size, 2))
    with uproot.recreate(path) as file:
        file.mktree("Events", {"flat": "float32", "pt": "var * float32"})
        file["Events"].extend({"flat": flat, "pt": lists})
    file = build_manifest([Sample(files=str(path), label=1)]).files[0]
    units = len(file.units) - 1
    assert units > 3
    calls: list[int] = []
    uncompressed = compression.uncompressed

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return uncompressed(*arguments)

    monkeypatch.setattr(basket_reader, "uncompressed", counted)
    with Source(["flat", "pt"]) as source:
        read = [source.unit(file, number) for number in range(units)]
        assert source.cached_bytes - sum(c.nbytes for unit in read for c in unit.values()) > 0
    assert len(calls) == 2
    assert np.concatenate([unit["flat"] for unit in read]).tobytes() == flat.tobytes()
    assert [x for unit in read for x in unit["pt"].to_lists()] == lists.to_list()


def test_what_uproot_knows_of_a_branch_is_found_before_threads_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uproot fills tables of its own for it, such as that of streamers, where others see them."""
    asked = []
    found = uproot.interpretation.identify.interpretation_of

    def noted(*args: Any, **options: Any) -> Any:
        asked.append(threading.current_thread())
        return found(*args, **options)

    monkeypatch.setattr(uproot.interpretation.identify, "interpretation_of", noted)
    monkeypatch.setattr(basket_reader, "LARGE", 0)
    with open_root(str(VECTORS)) as directory:
        tree = directory[tree_names(directory)[0]]
        wanted = [BranchRange(one, find_baskets(one, 0, 1), 0, 1) for one in tree.branches]
        read_baskets(wanted, threads=4)
    assert set(asked) == {threading.main_thread()}
