"""Which files the plan mixes as groups of their own."""

from __future__ import annotations

import pytest

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.stream import dataset as module
from hepdata_adapters.common.stream.dataset import Dataset
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


def test_there_are_no_more_groups_than_units_in_memory(prepared, monkeypatch):
    """64 groups on 12 streams decompressed each unit 53 times where the cache held 64 units."""
    assert prepared.most_groups == module.MAX_GROUPS
    unit = 65 * (4 + 4 * prepared.specs.branches["Jet_pt"].lengths.mean + 8)
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", int(5.01 * 12 * unit))
    assert prepared.most_groups == 5
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 1)
    assert prepared.most_groups == 1
