"""Which files the plan mixes as groups of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY, Reading
from hepdata_adapters.common.core.errors import ConfigError, StateError
from hepdata_adapters.common.stream import dataset as module
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.memory import buffer_of
from tests.helpers.samples import write_events


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six files in four samples with two labels."""
    folder = tmp_path_factory.mktemp("groups")
    files = [str(write_events(folder / f"{n}.root", 60 + n, n)) for n in range(6)]
    samples = [
        Sample(files=files[:2], label=1, name="a"), Sample(files=files[2:4], label=0, name="b"),
        Sample(files=files[4], label=0, name="c"), Sample(files=files[5], label=1, name="d"),
    ]  # fmt: skip
    split = {"train": 1, "validation": 0, "test": 0}
    return Dataset.prepare(DatasetConfig(samples=samples, features=["MET", "Jet_pt"], split=split))


@pytest.mark.parametrize(
    ("most", "groups"),
    [
        (6, [[0], [1], [2], [3], [4], [5]]),
        (5, [[0, 1], [2, 3], [4], [5]]),
        (3, [[0, 1, 5], [2, 3, 4]]),
        (1, [[0, 1, 5], [2, 3, 4]]),
    ],
)
def test_files_then_samples_then_labels(prepared, most, groups, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUPS", most)
    found, sizes = prepared.groups("train")
    assert [[file.number for file in group] for group in found] == groups
    assert sizes is None


def test_there_are_no_more_groups_than_units_in_memory(prepared):
    """64 groups on 12 streams decompressed each unit 53 times where the memory held 64 units."""
    assert prepared.most_groups == module.MAX_GROUPS
    unit = 65 * (4 + 4 * prepared.specs.branches["Jet_pt"].lengths.mean + 8)
    assert with_memory(prepared, int(5.01 * 4 * unit)).most_groups == 5
    assert with_memory(prepared, 1).most_groups == 1


def test_memory_that_does_not_hold_the_chunks_is_refused(prepared):
    chunks = buffer_of(prepared.transform, prepared.config.sampling, prepared.specs).nbytes
    reading = Reading(memory=chunks - 1)
    small = prepared.config.model_copy(update={"reading": reading})
    with pytest.raises(ConfigError, match=r"reading\.memory is .* raise it"):
        Dataset.prepare(small)
    assert with_memory(prepared, 0).unit_bytes == 0
    assert prepared.unit_bytes == DEFAULT_MEMORY - chunks


def test_a_position_is_of_the_cache_that_decided_the_groups(prepared):
    options = EpochOptions(64, shuffle=True, seed=0)
    cursor = options.epoch().cursor(prepared, "train")
    assert options.epoch().resumed(cursor, prepared, "train").start == 0
    with pytest.raises(StateError, match="sampling"):
        options.epoch().resumed(cursor, with_memory(prepared, 1), "train")


def with_memory(prepared: Dataset, for_units: int) -> Dataset:
    chunks = buffer_of(prepared.transform, prepared.config.sampling, prepared.specs).nbytes
    reading = Reading(memory=chunks + for_units)
    return replace(prepared, config=prepared.config.model_copy(update={"reading": reading}))
