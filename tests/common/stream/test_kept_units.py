"""Every cache setting delivers the same batches, byte for byte, in every epoch."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY
from hepdata_adapters import DatasetConfig
from hepdata_adapters.common.config.dataset_config import Reading
from hepdata_adapters.common.core.errors import FileError, MissingExtraError
from hepdata_adapters.common.files import source as source_module
from hepdata_adapters.common.files.checksums import Record
from hepdata_adapters.common.files.unit_cache import MemoryUnits
from hepdata_adapters.common.files.unit_folder import UnitFolder
from hepdata_adapters.common.stream import kept_units as module
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.kept_units import kept_line, kept_units, units_delivered
from hepdata_adapters.common.stream.materialize import materialize
from hepdata_adapters.common.stream.prepare import describe
from hepdata_adapters.common.stream.worker_pool import BatchWorkers
from tests.common.stream.test_worker_pool import check_equal, copied
from tests.helpers.samples import write_events
from tests.helpers.specs_files import small_units

EPOCHS = 3
CONFIGS: dict[str, dict[str, Any]] = {
    "flat": {"features": ["MET", "passes", "Jet_pt"]},
    "inputs": {
        "features": ["MET", "HT"],
        "columns": {"HT": "sum(Jet_pt)", "ratio": "Jet_pt / max(Jet_pt)"},
        "objects": {"Jet": {"selection": "Jet_pt > 10", "sort_by": "Jet_pt"}},
        "inputs": {
            "jets": {"kind": "set", "features": ["Jet_pt", "ratio"], "length": 4},
            "all": {"kind": "ragged", "features": ["Jet_pt", "Jet_id"]},
            "picture": {
                "kind": "image", "channels": ["count", "Jet_pt"],
                "axes": [{"branch": "Jet_pt", "bins": 4, "range": [0, 100]}],
            },
        },
    },
    "sets": {
        "features": ["MET"],
        "objects": {"Jet": {"selection": "Jet_pt > 10"}},
        "inputs": {"jets": {"kind": "set", "features": ["Jet_pt"], "length": 4}},
    },
    "over": {"features": ["MET", "Jet_pt"], "sampling": {"balance": "over"}},
    "resample": {"features": ["MET", "Jet_id"], "sampling": {"resample": True}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_units(monkeypatch, 100)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("kept")
    return [
        write_events(folder / "a.root", 900, seed=1, step=150),
        write_events(folder / "b.root", 350, seed=2, step=150),
        write_events(folder / "c.root", 350, seed=2, rntuple=True),
    ]


def dataset_of(files: list[Path], kind: str = "flat", **reading: Any) -> Dataset:
    # objects of a TTree and of an RNTuple have other members
    chosen = files[:2] if kind in ("inputs", "sets") else [files[0], files[2]]
    samples = [
        {
            "files": str(path), "label": number, "weight": "weight",
            "selection": ["MET > 5", "count(Jet_pt > 5) >= 1"][number],
        }
        for number, path in enumerate(chosen)
    ]  # fmt: skip
    document: dict[str, Any] = CONFIGS[kind]
    sampling = {"chunk_size": 64, "canonical_workers": 4} | document.get("sampling", {})
    return Dataset.prepare(
        DatasetConfig.model_validate(
            document | {"samples": samples, "sampling": sampling, "reading": reading}
        )
    )


def epochs_of(dataset: Dataset, split: Any = "train") -> list[dict[str, np.ndarray]]:
    options = EpochOptions(50, shuffle=True, seed=3)
    with EventStream(dataset, split) as stream:
        return [
            batch
            for number in range(EPOCHS)
            for batch in copied(options.epoch(number).batches(stream, None))
        ]


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the source was read")

    monkeypatch.setattr(source_module, "read_columns", refuse)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_same_batches_with_every_cache(kind, files, tmp_path, request) -> None:
    pytest.importorskip("pyarrow")
    expected = epochs_of(dataset_of(files, kind))
    assert len(expected) > 10
    for cache, limit in (
        ("memory", None), ("memory", "20 kB"), ("memory", 0),
        (tmp_path / "a", None), (tmp_path / "a", None), (tmp_path / "b", "40 kB"),
    ):  # fmt: skip
        # a cache of recent units that holds one: all else comes from what is asked about here
        found = dataset_of(files, kind, cache=cache, cache_limit=limit)
        check_equal(epochs_of(found), expected)
    written = dataset_of(files, kind, cache=tmp_path / "c")
    assert materialize(written).units == len(units_delivered(written))
    again = dataset_of(files, kind, cache=tmp_path / "c")
    request.getfixturevalue("no_reading")
    check_equal(epochs_of(written), expected)
    check_equal(epochs_of(again), expected)


@pytest.mark.parametrize("cache", ["memory", "folder"])
def test_the_second_epoch_reads_nothing_though_the_recent_units_are_few(
    files, tmp_path, monkeypatch, cache
) -> None:
    cache = tmp_path if cache == "folder" else cache
    chunks = DEFAULT_MEMORY - dataset_of(files).unit_bytes
    dataset = dataset_of(files, cache=cache, memory=chunks)
    assert dataset.unit_bytes == 0
    options = EpochOptions(50, shuffle=True, seed=3)
    with EventStream(dataset, "train") as stream:
        first = copied(options.epoch().batches(stream, None))

        def refuse(*_: object) -> None:
            raise AssertionError("the source was read")

        monkeypatch.setattr(source_module, "read_columns", refuse)
        check_equal(copied(options.epoch().batches(stream, None)), first)
        list(options.epoch(1).batches(stream, None))
    # validation reads the same units, of which it takes other events
    epochs_of(dataset, "validation")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", ["memory", "folder"])
def test_workers_share_a_folder_and_a_limit(files, tmp_path, cache, workers) -> None:
    cache = tmp_path if cache == "folder" else cache
    expected = epochs_of(dataset_of(files, "sets"))
    dataset = dataset_of(files, "sets", cache=cache)
    options = EpochOptions(50, shuffle=True, seed=3)
    with BatchWorkers(dataset, "train", batch_size=50, workers=workers) as pool:
        found = [
            batch
            for number in range(EPOCHS)
            for batch in copied(pool.batches(options.epoch(number)))
        ]
    check_equal(found, expected)
    if cache != "memory":
        names = [path.name.split(".")[0] for path in tmp_path.glob("units/*/*.arrow")]
        assert len(names) == len(units_delivered(dataset))


@settings(max_examples=25)
@given(st.data())
def test_any_settings_together(files, tmp_path_factory, data) -> None:
    kind = data.draw(st.sampled_from(sorted(CONFIGS)))
    folder = tmp_path_factory.getbasetemp() / "any"
    readings = st.fixed_dictionaries({
        "cache": st.sampled_from(["none", "memory", str(folder / kind)]),
        "cache_limit": st.sampled_from([None, 0, 5_000, 50_000]),
    })  # fmt: skip
    expected = epochs_of(dataset_of(files, kind))
    for reading in data.draw(st.lists(readings, min_size=1, max_size=3)):
        check_equal(epochs_of(dataset_of(files, kind, **reading)), expected)


def test_the_plan_and_its_identity_do_not_know_the_cache(files, tmp_path) -> None:
    epoch = EpochOptions(50, shuffle=True, seed=3).epoch()
    found = [
        epoch.identity(dataset_of(files, cache=cache), "train")
        for cache in ("none", "memory", tmp_path)
    ]
    assert found[0] == found[1] == found[2]


def test_memory_is_shared_by_the_streams_of_a_dataset_and_goes_with_it(files) -> None:
    dataset = dataset_of(files, cache="memory", cache_limit="1 MiB")
    kept = kept_units(dataset, 2)
    assert isinstance(kept, MemoryUnits)
    assert kept.limit == 2**19
    epochs_of(dataset)
    assert kept_units(dataset) is kept
    assert 0 < kept.held <= kept.limit
    assert kept_units(dataset_of(files, cache="memory")) is not kept
    assert kept_units(dataset_of(files)) is None
    gc.collect()
    before = len(module._kept)
    del dataset, kept
    gc.collect()
    assert len(module._kept) == before - 1


def test_the_default_limit_of_memory_is_half_of_what_is_free(files, monkeypatch) -> None:
    monkeypatch.setattr(module, "available_memory", lambda: 8 * 2**30)
    assert kept_units(dataset_of(files, cache="memory")).limit == 4 * 2**30
    assert kept_units(dataset_of(files, cache="memory"), 4).limit == 2**30
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert kept_units(dataset_of(files, cache="memory"), 4).limit == 2**29


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_a_thread_holds_the_lock_does_not_wait_for_it(files) -> None:
    dataset = dataset_of(files, cache="memory")
    with module._lock:
        child = os.fork()
        if not child:
            os._exit(0 if kept_units(dataset) is not None else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_verify_keeps_its_meaning(files, tmp_path) -> None:
    """What was kept without a comparison is not taken where one is asked for."""
    config = dataset_of(files, cache=tmp_path).config
    epochs_of(Dataset.prepare(config))
    strict = config.model_copy(update={"verify": "checksum"})
    dataset = Dataset.prepare(strict)
    record = dataset.manifest.files[0].record
    assert record is not None
    record.unlink()
    wrong = dict.fromkeys(("MET", "Jet_pt"), "0" * 16)
    entries = dataset.manifest.files[0].units[:2].tolist()
    Record(record).refresh().add(entries=entries, branches=wrong)
    with pytest.raises(FileError, match=r"the data changed since .*their checksum was 0000"):
        epochs_of(dataset)
    record.unlink()
    expected = epochs_of(Dataset.prepare(config))
    for _ in range(2):
        check_equal(epochs_of(Dataset.prepare(strict)), expected)


def test_the_error_without_pyarrow_comes_before_the_work(files, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.ipc", None)
    with pytest.raises(MissingExtraError, match=r"hepdata-adapters\[parquet\]"):
        dataset_of(files, cache=tmp_path)
    dataset_of(files, cache="memory")  # needs no Arrow


def test_what_is_kept_is_said_in_a_line(files, tmp_path) -> None:
    assert kept_line(Reading()) == ""
    assert kept_line(Reading(cache="memory")).endswith("up to half of what is free")
    line = kept_line(Reading(cache=tmp_path, cache_limit="4 GiB"))
    assert line == f"columns are kept in {tmp_path} for later epochs, up to 4.0 GiB"
    assert f"  {line}" in describe(dataset_of(files, cache=tmp_path, cache_limit="4 GiB"))


def test_a_folder_may_name_variables(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SCRATCH_OF_TEST", str(tmp_path))
    assert Reading(cache="$SCRATCH_OF_TEST/units").cache_folder == tmp_path / "units"
    assert Reading(cache="./none").cache_folder == Path("none")
    assert UnitFolder(Path("relative")).folder.is_absolute()
