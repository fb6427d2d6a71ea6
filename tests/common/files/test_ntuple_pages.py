"""RNTuples read page by page: uproot's values, at a cost that does not depend on the cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.files import ntuple_pages
from hepdata_adapters.common.files.baskets import DamagedError
from hepdata_adapters.common.files.decoded_cache import DecodedCache
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.files.ntuple_pages import read_pages
from hepdata_adapters.common.files.read import read_columns
from hepdata_adapters.common.files.schema import Schema, get_tree, read_schema
from hepdata_adapters.common.files.source import Source

WRITTEN_BY_ROOT = Path(__file__).parents[2] / "data" / "checksums-rntuple.root"


def opened(path: Path, name: str = "Events") -> tuple[Any, Schema]:
    tree = get_tree(uproot.open(path), name, str(path))
    return tree, read_schema(tree)


def expected(tree: Any, place: tuple[str, ...], start: int, stop: int) -> Any:
    values = tree.arrays(
        filter_field=lambda field: field.path == ".".join(place), how=dict,
        entry_start=start, entry_stop=stop, array_cache=None,
    )  # fmt: skip
    for name in place:
        values = values[name]
    return values


def check(column: Column, values: Any) -> None:
    if isinstance(column, Jagged):
        counts = ak.num(values).to_numpy()
        assert np.array_equal(np.diff(column.offsets), counts)
        assert column.offsets[0] == 0
        values = ak.flatten(values)
        column = column.content
    found = ak.to_numpy(values, allow_missing=False)
    assert column.dtype == found.dtype.newbyteorder("=")
    assert column.tobytes() == np.ascontiguousarray(found).tobytes()


def events(random: np.random.Generator, size: int) -> dict[str, Any]:
    lengths = random.integers(0, 4, size) * random.integers(0, 2, size)
    total = int(lengths.sum())
    return {
        "flat": random.normal(size=size).astype(np.float32),
        "whole": random.integers(-(2**62), 2**62, size),
        "small": random.integers(0, 255, size).astype(np.uint8),
        "flag": random.integers(0, 2, size).astype(bool),
        "three": random.normal(size=(size, 3)),
        "pt": ak.unflatten(random.normal(size=total), lengths),
        "ids": ak.unflatten(random.integers(-5, 5, total).astype(np.int16), lengths),
        "jets": ak.zip({
            "eta": ak.unflatten(random.normal(size=total).astype(np.float32), lengths),
            "tag": ak.unflatten(random.integers(0, 2, total).astype(bool), lengths),
        }),
    }  # fmt: skip


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    ranges=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4),
    kept=st.sampled_from([0, 200, 10**6]),
    seed=st.integers(0, 99),
)
def test_any_range_of_any_clusters_is_that_of_uproot(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    ranges: list[tuple[float, float]],
    kept: int,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("ntuple") / "a.root"
    random = np.random.default_rng(seed)
    with uproot.recreate(path) as file:
        ntuple = file.mkrntuple("Events", events(random, sizes[0]))
        for size in sizes[1:]:
            ntuple.extend(events(random, size))
    tree, schema = opened(path)
    pages = DecodedCache(kept)
    by_page = set()
    for one, other in ranges:
        start, stop = sorted(round(at * sum(sizes)) for at in (one, other))
        stop = max(stop, start + 1)
        for name, branch in schema.items():
            column = read_pages(tree, branch, start, min(stop, sum(sizes)), pages)
            if column is not None:
                by_page.add(name)
                check(column, expected(tree, branch.place, start, stop))
    assert by_page >= {"flat", "whole", "small", "flag", "pt", "ids", "jets.eta", "jets.tag"}
    assert pages.cached_bytes <= kept


@pytest.mark.parametrize("seed", range(3))
def test_what_root_wrote(seed: int) -> None:
    with uproot.open(WRITTEN_BY_ROOT) as file:
        (name,) = {key.partition(";")[0] for key in file}
    compare_all(WRITTEN_BY_ROOT, name, seed, least=1)


def test_foreign_ntuples(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*[nN][tT]uple*.root")):
        compare_all(path, "Events", 0, least=5)


def compare_all(path: Path, name: str, seed: int, least: int) -> None:
    tree, schema = opened(path, name)
    random = np.random.default_rng(seed)
    pages, read = DecodedCache(2**20), 0
    start, stop = sorted(random.integers(0, tree.num_entries + 1, 2).tolist())
    stop = max(stop, min(start + 1, tree.num_entries))
    start = min(start, stop - 1)
    for branch in schema.values():
        if branch.readable and (column := read_pages(tree, branch, start, stop, pages)) is not None:
            check(column, expected(tree, branch.place, start, stop))
            read += 1
    assert read >= least


def test_one_cluster_of_many_units_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 M events in one cluster took 90 s for specs: each unit decoded all of it."""
    path = tmp_path / "a.root"
    columns = events(np.random.default_rng(0), 300_000)
    with uproot.recreate(path) as file:
        file["Events"] = {name: columns[name] for name in ("flat", "pt")}
    manifest = build_manifest([Sample(files=str(path), label=1)])
    file = manifest.files[0]
    assert len(file.units) > 3  # entry ranges of at most 65,536 entries
    decoded: list[tuple[int, int]] = []

    uncompressed = ntuple_pages._uncompressed

    def counted(tree: Any, key: tuple[int, int, int], length: int) -> Any:
        decoded.append(key[1:])
        return uncompressed(tree, key, length)

    monkeypatch.setattr(ntuple_pages, "_uncompressed", counted)
    with Source(["flat", "pt"]) as source:
        units = [source.unit(file, number) for number in range(len(file.units) - 1)]
        assert source.cached_bytes < 10 * sum(np.asarray(columns["flat"]).nbytes for _ in range(2))
    assert len(decoded) == len(set(decoded)) == 3
    flat = np.concatenate([unit["flat"] for unit in units])
    assert flat.tobytes() == columns["flat"].tobytes()
    assert all(unit["flat"].base is None for unit in units)  # no view that keeps a cluster alive


def test_columns_that_do_not_fit_their_cluster_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"flat": np.arange(10.0), "pt": ak.Array([[1.0], []] * 5)}
    tree, schema = opened(path)
    tree.cluster_summaries[0].num_entries = 9
    for name in ("flat", "pt"):
        with pytest.raises(DamagedError, match=rf"cluster 0 has 10 elements of {name}; there are"):
            read_pages(tree, schema[name], 0, 5, DecodedCache(0))


def test_files_whose_columns_have_other_numbers(tmp_path: Path) -> None:
    """Column numbers are no part of a schema, so files of one schema may differ in them."""
    random = np.random.default_rng(1)
    pt = ak.unflatten(random.normal(size=6), [2, 0, 3, 1])
    columns = {"one": random.normal(size=4), "other": random.normal(size=4), "pt": pt}
    paths = [tmp_path / "a.root", tmp_path / "b.root"]
    for path, more in zip(paths, ({}, {"another": random.normal(size=4)}), strict=True):
        with uproot.recreate(path) as file:
            file["Events"] = more | columns
    files = build_manifest([Sample(files=list(map(str, paths)), label=1)]).files
    numbers = [{name: file.schema[name].columns for name in columns} for file in files]
    assert numbers[0] != numbers[1]
    assert [file.schema["one"] for file in files[1:]] == [files[0].schema["one"]]
    with Source(list(columns)) as source:
        for file in files:
            read = source.read(file, 0, 4)
            assert np.asarray(read["one"]).tolist() == columns["one"].tolist()
            assert np.asarray(read["other"]).tolist() == columns["other"].tolist()
            assert read["pt"].to_lists() == pt.to_list()  # type: ignore[union-attr]


def test_a_tree_that_is_opened_again_has_no_pages_of_the_one_before(tmp_path: Path) -> None:
    """Pages are kept by the identity of an open tree, which another tree may have later."""
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.root")
        with uproot.recreate(paths[-1]) as file:
            file["Events"] = {"x": np.full(60_000, number, np.float32)}
    files = build_manifest([Sample(files=list(map(str, paths)), label=1)]).files
    with Source(["x"], max_open=1) as source:
        for _ in range(3):
            for number, file in enumerate(files):
                assert set(np.asarray(source.read(file, 0, 100)["x"]).tolist()) == {number}
                assert len(source._decoded._kept) == 2  # the page, and where it is


def test_threads_find_all_columns_while_uproot_fills_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that came while another filled uproot's table of columns raised a KeyError."""
    path = tmp_path / "many.root"
    with uproot.recreate(path) as file:
        file.mkrntuple("Events", {f"x{number}": np.arange(10.0) for number in range(20)})
    tree, schema = opened(path)
    branches = list(schema.values())

    def slowly(ntuple: Any) -> dict[int, list[Any]]:
        if ntuple._column_records_dict_ is None:
            ntuple._column_records_dict_ = {}
            for record in ntuple.column_records:
                time.sleep(0.001)
                ntuple._column_records_dict_.setdefault(record.field_id, []).append(record)
        return ntuple._column_records_dict_  # type: ignore[no-any-return]

    monkeypatch.setattr(type(tree), "_column_records_dict", property(slowly))
    tree = get_tree(uproot.open(path), "Events", str(path))
    columns = read_columns(tree, branches, 0, 10, None, threads=4)
    assert all(np.array_equal(column, np.arange(10.0)) for column in columns.values())
