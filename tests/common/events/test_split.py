"""The split: four ways to say it, no event in two splits, stable whatever is done to the files."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import uproot
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.config.dataset_config import Split
from hepdata_adapters.common.core.errors import (
    BranchError,
    ConfigError,
    DataError,
    InvalidValueError,
    SpecsError,
)
from hepdata_adapters.common.events.layout import resolve
from hepdata_adapters.common.events.split import IDENTITY, SPLITS, split_codes, split_of_file
from hepdata_adapters.common.files.content import Content
from hepdata_adapters.common.files.manifest import FileInfo, build_manifest
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch import RootIterableDataset

SIZES = (300, 20, 180)


def columns_of(size: int, first: int = 0) -> dict[str, np.ndarray]:
    """``size`` events whose ``number`` starts at ``first``; ``part`` is 0, 1 or 2."""
    number = np.arange(first, first + size)
    return {
        "number": number.astype(np.float32),
        "part": (number % 3).astype(np.int16),
        "chosen": number % 4 == 0,
        "run": np.uint32(355_100) + (number // 100).astype(np.uint32),
        "luminosityBlock": (number // 10).astype(np.uint32),
        "event": np.uint64(2**40) + number.astype(np.uint64),
    }


def write(path: Path, columns: dict[str, np.ndarray], step: int = 64) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values.dtype for name, values in columns.items()})
        for start in range(0, len(columns["number"]), step):
            part = {name: values[start : start + step] for name, values in columns.items()}
            file["Events"].extend(part)
    return path


def parts() -> list[dict[str, np.ndarray]]:
    firsts = np.cumsum((0, *SIZES[:-1])).tolist()
    return [columns_of(size, first) for size, first in zip(SIZES, firsts, strict=True)]


def without_identity(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in columns.items() if name not in IDENTITY}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{n}.root", columns) for n, columns in enumerate(parts())]


def config_of(files: list[Path], split: dict[str, object], **options: object) -> DatasetConfig:
    return DatasetConfig(
        samples=[Sample(files=list(map(str, files)))],
        features=["number"],
        defaults={"scaling": "none"},
        split=split,
        **options,
    )


def assigned(files: list[Path], split: dict[str, object], **options: object) -> dict[int, str]:
    """The split in which each event is delivered, by its number; no event comes twice."""
    prepared = Dataset.prepare(config_of(files, split, **options))
    found = [
        (number, name)
        for name in SPLITS
        for batch in RootIterableDataset(prepared, split=name, batch_size=50)
        for number in batch["x"][:, 0].int().tolist()
    ]
    assert len(found) == len(dict(found)), "an event came twice"
    assert len(found) == prepared.specs.events(), "an event is in no split"
    return dict(found)


def codes_of(split: Split, identity: np.ndarray) -> np.ndarray:
    """The codes of events ``(n, 3)`` by a split that hashes them."""
    columns = dict(zip(IDENTITY, identity.T, strict=True))
    nothing = FileInfo("", "", 0, "", Content("", 0, ""), len(identity), np.array([0]), {})
    return split_codes(split, IDENTITY, nothing, 0, len(identity), columns)


def events(seed: int, size: int = 3000) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.stack([random.integers(1, 9, size), np.arange(size) // 50, np.arange(size)], axis=1)


fractions = st.tuples(*[st.integers(0, 20)] * 3).filter(any)


@settings(deadline=None)
@given(fractions, st.integers(-(2**62), 2**62))
def test_fractions_are_met_within_their_spread_and_cover_all(parts, seed):
    wanted = np.array(parts) / sum(parts)
    split = Split(train=wanted[0], validation=wanted[1], test=wanted[2], seed=seed)
    counts = np.bincount(codes_of(split, events(0)), minlength=3)
    assert counts.sum() == 3000
    spread = np.sqrt(3000 * wanted * (1 - wanted))
    assert (np.abs(counts - 3000 * wanted) <= 6 * spread).all()


@settings(deadline=None)
@given(st.integers(3, 12), st.integers(0, 2**62), st.integers(0, 2**32))
def test_each_event_is_tested_in_one_fold_and_validated_in_another(folds, seed, data):
    identity = events(data, 1200)
    codes = np.stack([codes_of(Split(folds=folds, fold=f, seed=seed), identity)
                      for f in range(folds)])  # fmt: skip
    assert ((codes == 2).sum(axis=0) == 1).all()
    assert ((codes == 1).sum(axis=0) == 1).all()
    np.testing.assert_array_equal(codes == 1, np.roll(codes == 2, -1, axis=0))
    spread = np.sqrt(1200 / folds * (1 - 1 / folds))
    assert (np.abs((codes == 2).sum(axis=1) - 1200 / folds) <= 6 * spread).all()


@settings(deadline=None)
@given(st.permutations(range(200)), st.lists(st.integers(0, 200), max_size=6), st.integers(0, 2))
def test_the_code_of_an_event_depends_on_neither_its_place_nor_the_chunk(order, cuts, way):
    split = (Split(), Split(folds=4, fold=1), Split(train=0.2, validation=0.5, test=0.3))[way]
    identity = events(1, 200)
    moved = identity[order]
    bounds = sorted({0, 200, *cuts})
    codes = [codes_of(split, moved[a:b]) for a, b in itertools.pairwise(bounds)]
    np.testing.assert_array_equal(np.concatenate(codes), codes_of(split, identity)[order])


HASHED = [{"train": 0.5, "validation": 0.25, "test": 0.25}, {"folds": 4, "fold": 2, "seed": 3}]
BY_BRANCH = {"branch": "part", "values": {"train": [1], "validation": [2], "test": [0]}}


@pytest.mark.parametrize("split", [*HASHED, BY_BRANCH], ids=["fractions", "folds", "branch"])
def test_merging_renaming_reordering_and_rechunking_leave_every_event_in_its_split(
    files, tmp_path, split
):
    before = assigned(files, split)
    assert set(before.values()) == set(SPLITS)
    joined = {name: np.concatenate([part[name] for part in parts()]) for name in parts()[0]}
    shuffled = np.random.default_rng(5).permutation(sum(SIZES))
    moved = {name: values[shuffled] for name, values in joined.items()}
    assert assigned([write(tmp_path / "merged.root", joined)], split) == before
    assert assigned([write(tmp_path / "other/order.root", moved, step=500)], split) == before
    assert assigned(files[::-1], split) == before
    assert assigned(files, split, sampling={"chunk_size": 7}) == before
    small = [write(tmp_path / f"z{9 - n}.root", part, step=7) for n, part in enumerate(parts())]
    assert assigned(small, split) == before


@pytest.mark.parametrize("split", HASHED, ids=["fractions", "folds"])
def test_the_split_by_file_and_entry_survives_all_but_merging(tmp_path, monkeypatch, split):
    bare = [without_identity(part) for part in parts()]
    files = [write(tmp_path / f"{n}.root", part) for n, part in enumerate(bare)]
    before = assigned(files, split)
    renamed = [tmp_path / f"z{9 - n}.root" for n in range(len(files))]
    for old, new in zip(files, renamed, strict=True):
        new.write_bytes(old.read_bytes())
    assert assigned(renamed[::-1], split) == before
    assert assigned(files, split, sampling={"chunk_size": 7}) == before
    monkeypatch.setattr(
        "hepdata_adapters.common.files.manifest.unit_bounds.__defaults__", ((1, 50),)
    )
    assert len(build_manifest(config_of(files, split).samples).files[0].units) > 4
    assert assigned(files, split) == before
    joined = {name: np.concatenate([part[name] for part in bare]) for name in bare[0]}
    assert assigned([write(tmp_path / "merged.root", joined)], split) != before


def test_over_all_folds_each_event_of_the_files_is_tested_once(files):
    tested = [
        number
        for fold in range(3)
        for number, name in assigned(files, {"folds": 3, "fold": fold}).items()
        if name == "test"
    ]
    assert sorted(tested) == list(range(sum(SIZES)))


@pytest.mark.parametrize(
    ("branch", "values", "expected"),
    [
        ("part", BY_BRANCH["values"], lambda n: ("test", "train", "validation")[n % 3]),
        ("part", {"train": [0, 1], "test": 2}, lambda n: ("train", "train", "test")[n % 3]),
        ("chosen", {"train": False, "test": True}, lambda n: "train" if n % 4 else "test"),
        ("luminosityBlock", {"train": list(range(40)), "test": list(range(40, 50))},
         lambda n: "train" if n < 400 else "test"),
    ],
)  # fmt: skip
def test_a_branch_says_the_split(files, branch, values, expected):
    found = assigned(files, {"branch": branch, "values": values})
    assert found == {number: expected(number) for number in range(sum(SIZES))}


def test_the_branch_of_the_split_is_no_feature_unless_it_is_listed(files):
    config = config_of(files, BY_BRANCH).model_copy(update={"features": "*"})
    layout = resolve(config, build_manifest(config.samples))
    assert [feature.branch.name for feature in layout.features] == ["number", "chosen"]
    assert layout.excluded["part"] == "decides the split"
    assert layout.excluded["event"] == "identity of the event"


def test_a_value_listed_for_no_split_is_an_error_with_its_entry(files):
    split = {"branch": "part", "values": {"train": [0], "test": [1]}}
    with pytest.raises(InvalidValueError) as caught:
        compute_specs(config_of(files, split))
    for said in ("value 2 is listed for no split", str(files[0]), "branch part", "entry 2]"):
        assert said in str(caught.value)


@pytest.mark.parametrize(
    ("branch", "said"), [("number", "this is float32"), ("prat", "no branch 'prat'; did you mean")]
)
def test_a_branch_that_cannot_split_is_refused(files, branch, said):
    with pytest.raises(BranchError, match=said):
        compute_specs(config_of(files, {"branch": branch, "values": {"train": [1]}}))


def test_a_branch_that_is_missing_in_one_file_is_refused(tmp_path, files):
    bare = {name: values for name, values in columns_of(10).items() if name != "part"}
    other = write(tmp_path / "bare.root", bare)
    with pytest.raises(BranchError, match=r"no branch 'part'.*bare\.root"):
        compute_specs(config_of([*files, other], BY_BRANCH))


@pytest.fixture
def periods(tmp_path: Path) -> list[Path]:
    names = ("2018A/run_1.root", "2018A/run_2.root", "2018D/run_1.root")
    return [write(tmp_path / n, c) for n, c in zip(names, parts(), strict=True)]


def test_files_say_the_split_and_all_others_train(periods):
    split = {"files": {"validation": "run_2.root", "test": ["2018D/*.root"]}}
    found = assigned(periods, split)
    names = np.repeat(("train", "validation", "test"), SIZES).tolist()
    assert found == dict(enumerate(names))
    assert assigned(periods[::-1], split, sampling={"chunk_size": 7}) == found


@pytest.mark.parametrize(
    ("url", "pattern", "matches"),
    [
        ("root://host:1094//store/2018D/a.root", "2018D/*", True),
        ("root://host:1094//store/2018D/a.root", "root://host:1094//store/2018D/a.root", True),
        ("root://host:1094//store/2018D/a.root", "*.root", True),
        ("https://host/a.root?token=b/c", "a.root", True),
        ("data/2018D/a.root", "./2018D/?.root", True),
        ("data/2018D/a.root", "2018D", False),
        ("data/2018D/a.root", "A.root", False),
        ("data/2018D/a.root", "/2018D/a.root", False),
        ("data/what?.root", "what?.root", True),
    ],
)
def test_patterns_match_from_the_right_end_of_the_path(url, pattern, matches):
    found = split_of_file(Split(files={"test": [pattern]}), url)
    assert found == ("test" if matches else "train")


def test_a_pattern_without_files_is_refused(periods):
    with pytest.raises(ConfigError, match=r"split.files.test: no file matches '2019\*'"):
        compute_specs(config_of(periods, {"files": {"test": ["run_2.root", "2019*"]}}))


def test_a_file_in_two_splits_is_refused(periods):
    split = {"files": {"validation": "run_1.root", "test": "2018D/*"}}
    with pytest.raises(ConfigError) as caught:
        compute_specs(config_of(periods, split))
    for said in (str(periods[2]), "validation ('run_1.root') and test ('2018D/*')"):
        assert said in str(caught.value)


def test_a_split_by_files_that_leaves_none_for_training_says_what_to_do(periods):
    with pytest.raises(DataError, match=r"leave files over for it in split\.files"):
        compute_specs(config_of(periods, {"files": {"test": "*.root"}}))


def test_specs_are_refused_after_a_renaming_that_changes_the_split(periods, tmp_path):
    """The counts in the specs are those of the old names; they would be taken for the new."""
    split = {"files": {"test": "2018D/*"}}
    specs = compute_specs(config_of(periods, split))
    moved = [tmp_path / "elsewhere" / path.relative_to(tmp_path) for path in periods]
    for old, new in zip(periods, moved, strict=True):
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(old.read_bytes())
    Dataset.prepare(config_of(moved, split), specs)  # the same names elsewhere
    other = moved[0].rename(moved[2].with_name("run_3.root"))
    with pytest.raises(SpecsError, match=r"run_3.root is in test, was in train"):
        Dataset.prepare(config_of([other, *moved[1:]], split), specs)
    # the cache is not fooled either: its name has the splits of the files in it
    assert Dataset.prepare(config_of([other, *moved[1:]], split)).specs.events("test") == 480


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"folds": 5, "fold": 1}, "split.fold is 1, was 0"),
        ({"folds": 4, "fold": 0}, "split.folds is 4, was 5"),
        ({"folds": 5, "fold": 0, "seed": 1}, "split.seed is 1, was 0"),
        ({"seed": 1}, "the split is by fractions, was by folds"),
        (BY_BRANCH, "the split is by branch, was by folds"),
    ],
)
def test_specs_of_another_split_are_refused_with_what_differs(files, split, said):
    specs = compute_specs(config_of(files, {"folds": 5, "fold": 0}))
    with pytest.raises(SpecsError, match=said):
        Dataset.prepare(config_of(files, split), specs)


VALID = [
    {"train": 0.8, "validation": 0.2, "test": 0.0, "seed": 4},
    {"identity": ["run", "event"]},
    {"fold": 3, "folds": 5},
    {"folds": 3, "fold": 0, "identity": "entry", "seed": -1},
    BY_BRANCH,
    {"branch": "chosen", "values": {"train": True, "test": False}},
    {"files": {"validation": "run2018D_*.root"}},
]


@pytest.mark.parametrize("split", VALID)
def test_yaml_python_and_dumped_splits_are_the_same(tmp_path, split):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"samples": [{"files": "a.root"}], "split": split}))
    config = load_config(path)
    assert config.split == Split(**split)
    assert type(config).model_validate(config.model_dump()) == config
    assert type(config).model_validate_json(config.model_dump_json()) == config


def test_fractions_are_dumped_as_before_the_other_ways_came():
    """The dump is part of the hashes that bind specs and archives; they must stay valid."""
    old = {"train": 0.64, "validation": 0.16, "test": 0.2, "seed": 0, "identity": "auto"}
    assert Split().model_dump(mode="json") == old


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("{folds: 5}", "folds (how many) and fold (which one) go together"),
        ("{fold: 1}", "folds (how many) and fold (which one) go together"),
        ("{folds: 5, fold: 5}", "fold is 0 to 4, not 5"),
        ("{folds: 2, fold: 0}", "split.folds: Input should be greater than or equal to 3"),
        ("{folds: 5, fold: -1}", "split.fold: "),
        ("{folds: 5, fold: 1, train: 0.5}", "a split by folds takes folds, fold, seed, identity, "
         "not train"),
        ("{branch: b}", "branch and values (of each split) go together"),
        ("{values: {train: 1}}", "branch and values (of each split) go together"),
        ("{branch: b, values: {train: 1}, seed: 2}", "a split by branch takes branch, values, not "
         "seed"),
        ("{branch: b, values: {train: 1, test: [2, 1]}}", "values: 1 is listed twice"),
        ("{branch: b, values: {trian: 1}}", "split.values.trian"),
        ("{branch: b, values: {train: one}}", "split.values.train"),
        ("{branch: b, values: {train: 0.5}}", "split.values.train"),
        ("{branch: '', values: {train: 1}}", "split.branch: "),
        ("{files: {train: a.root}}", "split.files.train"),
        ("{files: {}}", "split.files: "),
        ("{files: {test: ['']}}", "a pattern of files is empty"),
        ("{files: {test: a.root}, branch: b}", "a split by files takes files, not branch"),
        ("{folds: 5, fold: 1, brunch: b}", "unknown key 'split.brunch'; did you mean 'branch'?"),
    ],
)  # fmt: skip
def test_a_split_that_makes_no_sense_is_refused(tmp_path, split, said):
    path = tmp_path / "config.yaml"
    path.write_text(f"samples: [{{files: a.root}}]\nsplit: {split}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert said in str(caught.value)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(make_file):
    files = [make_file(f"run[{n}].root", number=np.arange(10) + 10 * n) for n in (1, 2)]
    found = assigned(files, {"files": {"test": "run[2].root"}})
    assert {number for number, name in found.items() if name == "test"} == set(range(20, 30))
