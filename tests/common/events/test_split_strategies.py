"""The union of ways to split: what each member knows, and what a new one needs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from hepdata_adapters import Sample
from hepdata_adapters.common.config.split_config import WAYS, Split
from hepdata_adapters.common.events.layout import resolve
from hepdata_adapters.common.events.selection import member_codes
from hepdata_adapters.common.events.split import (
    SPLITS,
    STRATEGIES,
    Entries,
    SplitStrategy,
    describe_split,
    split_branches,
    split_codes,
    strategy,
)
from hepdata_adapters.common.files.manifest import Manifest, build_manifest
from hepdata_adapters.common.specs.binding import Binding
from hepdata_adapters.common.specs.compute import binding_of
from hepdata_adapters.common.stream.prepare import as_config

EXAMPLES = {
    "fractions": ({}, (), "file UUID and entry"),
    "folds": ({"folds": 3, "fold": 1}, (), "file UUID and entry (fold 1 of 0 to 2)"),
    "branch": (
        {"branch": "part", "values": {"train": 0, "validation": 1, "test": 2}},
        ("part",),
        "the value of part",
    ),
    "files": ({"files": {"validation": "one.root"}}, (), "file"),
}


@pytest.fixture
def manifest(make_file) -> Manifest:
    path = make_file("one.root", number=np.arange(60), part=np.arange(60) % 3)
    return build_manifest((Sample(files=path),))


def test_each_member_of_the_union_has_a_strategy_and_an_example():
    assert set(STRATEGIES) == set(WAYS)
    assert set(EXAMPLES) == {way.way for way in WAYS}


@pytest.mark.parametrize("way", EXAMPLES)
def test_each_member_knows_its_branches_codes_description_and_hint(manifest, way):
    keys, branches, description = EXAMPLES[way]
    split = Split(**keys)
    assert (type(split), split.way) in {(member, member.way) for member in WAYS}
    assert split_branches(split, manifest) == branches
    assert describe_split(split, branches) == description
    assert "split." in strategy(split).hint
    (file,) = manifest.files
    part = np.arange(60) % 3
    codes = split_codes(split, branches, file, 0, 60, {"part": part})
    assert codes.dtype == np.int64
    assert codes.shape == (60,)
    assert set(codes) == ({1} if way == "files" else {0, 1, 2})
    later = split_codes(split, branches, file, 20, 60, {"part": part[20:]})
    np.testing.assert_array_equal(later, codes[20:])


@pytest.mark.parametrize("way", EXAMPLES)
def test_each_member_is_dumped_with_its_own_keys_and_read_again(way):
    split = Split(**EXAMPLES[way][0])
    dumped = split.model_dump(mode="json")
    assert list(dumped) == list(type(split).model_fields)
    assert Split(**dumped) == split
    assert as_config("a.root", {"split_by": split})[0].split is split


class HalfSplit(Split):
    """The first half of each file trains."""

    way: ClassVar[str] = "halves"

    rest: str = "test"


class ByHalves(SplitStrategy[HalfSplit]):
    hint = "add events"

    def branches(self, manifest: Manifest) -> tuple[str, ...]:
        return ()

    def codes(self, branches: tuple[str, ...], entries: Entries) -> np.ndarray:
        first = np.arange(entries.start, entries.stop) < entries.file.entries // 2
        return np.where(first, 0, SPLITS.index(self.split.rest))

    def description(self, branches: tuple[str, ...]) -> str:
        return f"entry, the second half is {self.split.rest}"


def test_a_new_strategy_runs_through_the_same_entries(manifest, monkeypatch):
    monkeypatch.setitem(STRATEGIES, HalfSplit, ByHalves)
    split = HalfSplit(rest="validation")
    config, _ = as_config(manifest.files[0].url, {"split_by": split})
    layout = resolve(config, manifest)
    assert layout.identity == split_branches(split, manifest) == ()
    assert describe_split(config.split, ()) == "entry, the second half is validation"
    codes = member_codes(config.split, layout, manifest.files[0], 0, 60, {})
    assert codes.tolist() == [0] * 30 + [1] * 30
    assert strategy(split).hint == "add events"
    binding = binding_of(config, manifest, layout)
    other = binding.model_copy(update={"split": HalfSplit()})
    assert binding.hash() != other.hash()
    assert Binding.differences(other, binding) == ["split.rest is validation, was test"]
