"""Specs: statistics against numpy, merging, and being bound to their data."""

from __future__ import annotations

import json

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hepdata_adapters import DatasetConfig, Sample, Specs, compute_specs
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import DataError, SpecsError
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.compute import specs_of
from hepdata_adapters.common.specs.model import Binding
from hepdata_adapters.common.specs.sums import summarize
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.samples import write_events

FLAT = Branch("x", "flat", "float64")
finite = arrays(np.float64, st.integers(0, 60), elements=st.floats(-1e6, 1e6))


def config_of(*paths, **options) -> DatasetConfig:
    files = tuple(map(str, paths))
    return DatasetConfig(samples=(Sample(files=files),), **options)


@settings(deadline=None, max_examples=100)
@given(st.lists(finite, min_size=1, max_size=7))
def test_merged_statistics_are_those_of_all_values(parts):
    merged = summarize(FLAT, parts[0])
    for part in parts[1:]:
        merged = merged.merge(summarize(FLAT, part))
    values = np.concatenate(parts)
    assert merged.count == len(values)
    if len(values):
        assert merged.minimum == values.min()
        assert merged.maximum == values.max()
        assert merged.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-6)
        assert merged.std == pytest.approx(values.std(), rel=1e-6, abs=1e-4)


def test_quantiles_of_merged_parts_are_within_the_bound_of_the_sketch():
    values = np.random.default_rng(0).normal(size=70_000)
    merged = summarize(FLAT, values[:10_000])
    for start in range(10_000, 70_000, 10_000):
        merged = merged.merge(summarize(FLAT, values[start : start + 10_000]))
    for q in (0.01, 0.16, 0.5, 0.84, 0.99):
        rank = (values < merged.quantile(q)).mean()
        assert rank == pytest.approx(q, abs=0.005)


@pytest.mark.parametrize("size", [1, 2, 99, 100, 101, 199, 201, 700, 5000, 123_457])
def test_quantiles_of_one_part_are_within_the_bound_of_the_sketch(size):
    values = np.random.default_rng(size).exponential(size=size)
    stats = summarize(FLAT, values)
    for q in (0.001, 0.01, 0.16, 0.5, 0.84, 0.99, 0.999):
        below, above = (values < stats.quantile(q)).sum(), (values <= stats.quantile(q)).sum()
        assert below - 1 <= size * (q + 0.002)
        assert above + 1 >= size * (q - 0.002)
    assert sum(count for _, count in stats.sketch) == size


def test_nan_and_infinity_are_counted_and_poison_nothing():
    """In MLaaS4HEP one NaN turned a whole column to the pad value."""
    stats = summarize(FLAT, np.array([1.0, np.nan, np.inf, -np.inf, 3.0, np.nan]))
    assert (stats.count, stats.nan) == (2, 2)
    assert (stats.positive_infinity, stats.negative_infinity) == (1, 1)
    assert (stats.minimum, stats.maximum, stats.mean) == (1.0, 3.0, 2.0)


def test_an_empty_chunk_poisons_nothing():
    """In MLaaS4HEP an empty chunk spoilt minimum and maximum."""
    empty = summarize(FLAT, np.zeros(0))
    merged = empty.merge(summarize(FLAT, np.array([5.0]))).merge(empty)
    assert (merged.minimum, merged.maximum, merged.count) == (5.0, 5.0, 1)


def test_wide_integers_keep_their_digits():
    wide = np.array([2**60 + 1, 2**60 + 3])
    stats = summarize(Branch("event", "flat", "int64"), wide)
    assert (stats.minimum, stats.maximum) == (2**60 + 1, 2**60 + 3)


def test_lengths_are_counted_exactly_and_merge():
    jets = Branch("pt", "jagged", "float64")
    one = summarize(jets, Jagged.from_lists([[1.0], [], [1.0, 2.0]]))
    both = one.merge(summarize(jets, Jagged.from_lists([[], [1.0] * 5])))
    assert both.lengths.counts == {0: 2, 1: 1, 2: 1, 5: 1}
    assert (both.lengths.max, both.lengths.quantile(0.5), both.lengths.quantile(1.0)) == (5, 1, 5)


def test_specs_of_real_files_agree_with_numpy_over_the_training_events(three_files):
    config = config_of(*three_files)
    dataset = RootIterableDataset(config, split="train", batch_size=1000, progress=False)
    events = [event for batch in dataset for event in batch["event"].tolist()]
    for name in ("MET", "Jet_pt", "run_number"):
        read = [uproot.open(path)["Events"][name].array() for path in three_files]
        values = ak.flatten(
            ak.Array([read[file][entry] for file, entry in events]), axis=None
        ).to_numpy()
        stats = dataset.specs.branches[name]
        assert stats.count == len(values)
        assert (stats.minimum, stats.maximum) == (values.min(), values.max())
        assert stats.mean == pytest.approx(values.astype(float).mean(), rel=1e-12)
        if name != "run_number":  # numpy's own float64 sum is no reference at 2^53
            assert stats.std == pytest.approx(values.astype(float).std(), rel=1e-9)
            rank = (values < stats.quantile(0.84)).mean()
            assert rank == pytest.approx(0.84, abs=0.01)


def test_specs_see_no_validation_or_test_event(tmp_path, make_file):
    """In MLaaS4HEP the specs included the test events."""
    path = make_file(x=np.arange(1000.0))
    dataset = RootIterableDataset(str(path), split="train", batch_size=1000, progress=False)
    trained = [entry for batch in dataset for _, entry in batch["event"].tolist()]
    assert dataset.specs.branches["x"].count == len(trained) < 800
    assert dataset.specs.branches["x"].mean == pytest.approx(np.mean(trained))


def test_specs_survive_a_round_trip(three_files, tmp_path):
    specs = compute_specs(config_of(*three_files))
    specs.save(tmp_path / "specs.json")
    assert Specs.load(tmp_path / "specs.json") == specs


def test_computing_twice_gives_the_same_bytes(three_files, tmp_path):
    for name in ("one.json", "two.json"):
        compute_specs(config_of(*three_files)).save(tmp_path / name)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_moved_files_keep_their_specs(three_files, tmp_path):
    specs = compute_specs(config_of(*three_files))
    moved = [tmp_path / path.name for path in three_files]
    for old, new in zip(three_files, moved, strict=True):
        new.write_bytes(old.read_bytes())
    Dataset.prepare(config_of(*moved), specs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda files: {"files": files[:2]}, "is gone"),
        (lambda files: {"files": files[::-1]}, "another order"),
        (lambda files: {"files": files, "split": {"seed": 5}}, "split.seed is 5, was 0"),
        (
            lambda files: {"files": files, "split": {"train": 0.5, "test": 0.34}},
            "split.train is 0.5, was 0.64",
        ),
    ],
)
def test_specs_of_other_data_are_refused_with_what_differs(three_files, change, said):
    specs = compute_specs(config_of(*three_files))
    options = change(three_files)
    with pytest.raises(SpecsError, match=said):
        Dataset.prepare(config_of(*options.pop("files"), **options), specs)


def test_specs_without_a_branch_are_refused_and_name_it(three_files):
    specs = compute_specs(config_of(*three_files, features=["MET"]))
    with pytest.raises(SpecsError, match="no statistics of Jet_pt"):
        Dataset.prepare(config_of(*three_files, features=["MET", "Jet_pt"]), specs)


def test_a_replaced_file_is_noticed(three_files, tmp_path):
    path = write_events(tmp_path / "a.root", 50)
    specs = compute_specs(config_of(path))
    write_events(path, 60)
    with pytest.raises(SpecsError, match=r"a\.root has 60 entries, had 50"):
        Dataset.prepare(config_of(path), specs)


def test_edited_specs_are_refused(three_files, tmp_path):
    path = tmp_path / "specs.json"
    compute_specs(config_of(*three_files)).save(path)
    document = json.loads(path.read_text())
    document["binding"]["split"]["seed"] = 7
    path.write_text(json.dumps(document))
    with pytest.raises(SpecsError, match="its hash does not fit"):
        Specs.load(path)


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_damaged_cache_is_made_anew(three_files, tmp_path, monkeypatch, damage):
    """A cache left by an older version stopped `make demo`."""
    monkeypatch.setenv("HEPDATA_CACHE", str(tmp_path))
    before = Dataset.prepare(config_of(*three_files)).specs
    (path,) = tmp_path.glob("*.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"mean":', b'"mean":1', 1) if damage is None else damage)
    assert Dataset.prepare(config_of(*three_files)).specs == before
    assert path.read_bytes() == whole


def test_an_empty_training_split_is_an_error(three_files):
    nothing = {"train": 0.0, "validation": 0.5, "test": 0.5}
    with pytest.raises(DataError, match="the training split is empty"):
        compute_specs(config_of(*three_files, split=nothing))


def test_units_of_a_file_do_not_change_the_statistics(three_files, monkeypatch):
    from hepdata_adapters.common.events.layout import resolve
    from hepdata_adapters.common.files.manifest import build_manifest

    config = config_of(three_files[0])
    found = []
    for limits in ((1, 100), (2048, 16384)):
        monkeypatch.setattr("hepdata_adapters.common.files.manifest.UNIT_ENTRIES", limits)
        manifest = build_manifest(config.samples)
        monkeypatch.setattr(
            "hepdata_adapters.common.files.manifest.unit_bounds.__defaults__",
            (limits,),
            raising=False,
        )
        manifest = build_manifest(config.samples)
        found.append(specs_of(config, manifest, resolve(config, manifest)))
    many, one = found
    assert len(many.binding.files[0].units) > len(one.binding.files[0].units)
    for name, stats in one.branches.items():
        other = many.branches[name]
        assert (other.count, other.minimum, other.maximum) == (
            stats.count, stats.minimum, stats.maximum,
        )  # fmt: skip
        assert other.mean == pytest.approx(stats.mean, rel=1e-12)
        assert other.lengths == stats.lengths


def test_the_binding_hash_ignores_the_place_of_the_files(three_files):
    specs = compute_specs(config_of(*three_files))
    files = tuple(f.model_copy(update={"url": "elsewhere"}) for f in specs.binding.files)
    moved: Binding = specs.binding.model_copy(update={"files": files})
    assert moved.hash() == specs.hash
