"""Specs weighted by events and classes are those of the weighted values."""

from __future__ import annotations

import re
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters import DatasetConfig, Sample, Specs, compute_specs
from hepdata_adapters.common.core.errors import ConfigError, SpecsError
from hepdata_adapters.common.events.layout import resolve
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.specs.merge import balanced, merge_specs
from hepdata_adapters.common.specs.sums import summarize
from hepdata_adapters.common.specs.update import update_specs
from hepdata_adapters.common.stream.dataset import Dataset
from tests.helpers import specs_files
from tests.helpers.specs_files import FEATURES, FLAT, config_of, same_within_bounds

seven = specs_files.seven


def classes_of(signal_files: list[Path], background: list[Path], **options) -> DatasetConfig:
    return DatasetConfig(
        samples=(
            Sample(files=tuple(map(str, signal_files)), label=1, weight="weight"),
            Sample(files=tuple(map(str, background)), label=0, weight=3.0),
        ),
        features=FEATURES,
        **options,
    )


def training_values(config: DatasetConfig, name: str) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Values, weight of each value, and label, of the training events of each file."""
    from hepdata_adapters.common.events.split import split_codes

    manifest = scan(config)
    layout = resolve(config, manifest)
    found = []
    for file in manifest.files:
        codes = split_codes(config.split, layout.identity, file, 0, file.entries, {})
        sample = config.samples[file.sample]
        tree = uproot.open(file.url)["Events"]
        column = tree[name].array()[codes == 0]
        weight = np.full(len(column), abs(sample.weight.constant))
        if sample.weight.branch:
            weight = np.abs(tree[sample.weight.branch].array().to_numpy()[codes == 0])
        repeats = ak.num(column).to_numpy() if column.ndim > 1 else 1
        values = ak.flatten(column, axis=None).to_numpy().astype(float)
        found.append((values, np.repeat(weight, repeats), int(sample.label)))
    return found


@pytest.mark.parametrize("name", ["MET", "Jet_pt"])
def test_weights_weigh_moments_and_quantiles_only(seven, name):
    config = classes_of(seven[:1], seven[2:4])
    read = training_values(config, name)
    values, weights = (np.concatenate([entry[i] for entry in read]) for i in (0, 1))
    plain = compute_specs(config).branches[name]
    specs = compute_specs(config.model_copy(update={"statistics": "weights"}))
    found = specs.branches[name]
    assert (found.count, found.minimum, found.maximum) == (
        plain.count, plain.minimum, plain.maximum,
    )  # fmt: skip
    assert found.lengths == plain.lengths
    mean = np.average(values, weights=weights)
    assert found.weight == pytest.approx(weights.sum(), rel=1e-12)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.std == pytest.approx(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    for q in (0.05, 0.5, 0.95):
        rank = weights[values < found.quantile(q)].sum() / weights.sum()
        assert rank == pytest.approx(q, abs=0.01)


@pytest.mark.parametrize("name", ["MET", "Jet_pt"])
def test_classes_have_the_same_total_weight(seven, name):
    config = classes_of(seven[:2], seven[2:4], statistics="classes")
    specs = compute_specs(config)
    read = training_values(config, name)
    by_class = [np.concatenate([v for v, _, label in read if label == c]) for c in (0, 1)]
    events = [specs.classes[str(c)].events for c in (0, 1)]
    assert sum(events) == specs.events("train")
    values = np.concatenate(by_class)
    weights = np.concatenate(
        [np.full(len(v), 1 / n) for v, n in zip(by_class, events, strict=True)]
    )
    found = specs.branches[name]
    assert found.count == len(values)
    mean = np.average(values, weights=weights)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.std == pytest.approx(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    rank = weights[values < found.quantile(0.84)].sum() / weights.sum()
    assert rank == pytest.approx(0.84, abs=0.01)
    assert balanced(specs.classes) == specs.branches


@pytest.mark.parametrize("statistics", ["weights", "classes"])
def test_weighted_specs_are_bound_merged_and_the_same_on_two_processes(seven, statistics, tmp_path):
    config = classes_of(seven[:2], seven[2:4], statistics=statistics)
    whole = compute_specs(config)
    assert compute_specs(config, processes=2) == whole
    whole.save(tmp_path / "specs.json")
    assert Specs.load(tmp_path / "specs.json") == whole
    plain = config.model_copy(update={"statistics": "events"})
    with pytest.raises(SpecsError, match=f"the statistics are of events, were of {statistics}"):
        Dataset.prepare(plain, whole)
    assert compute_specs(plain).hash != whole.hash
    old = compute_specs(classes_of(seven[:1], seven[2:3], statistics=statistics))
    same_within_bounds(update_specs(config, old), whole)


def test_weights_normalised_to_a_cross_section_do_not_merge(seven):
    def config(path: Path) -> DatasetConfig:
        weight = {"cross_section": 2.0, "luminosity": 10.0}
        sample = Sample(files=str(path), weight=weight)
        return DatasetConfig(samples=(sample,), features=["MET"], statistics="weights")

    with pytest.raises(SpecsError, match="normalised to a cross section"):
        merge_specs([compute_specs(config(path)) for path in (seven[0], seven[2])])


def test_classes_need_labels_that_are_classes(seven):
    with pytest.raises(ConfigError, match="statistics: classes needs labels"):
        compute_specs(config_of(seven[0], statistics="classes"))


def test_unweighted_specs_say_nothing_of_weights(seven, tmp_path):
    """Files written before weights existed keep their bytes, their hash and their checksum."""
    compute_specs(config_of(seven[0])).save(tmp_path / "specs.json")
    text = (tmp_path / "specs.json").read_text()
    assert not re.search("weight|classes|sampled|statistics|drops", text)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e9])
def test_weighted_quantiles_do_not_depend_on_the_unit_of_the_weights(scale):
    random = np.random.default_rng(0)
    values, weights = random.normal(size=20_000), random.exponential(size=20_000)
    found = summarize(FLAT, values, weights * scale)
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    for q in (0.01, 0.16, 0.5, 0.84, 0.99):
        assert found.quantile(q) == pytest.approx(
            values[order][np.searchsorted(below, q)], abs=0.03
        )


def test_events_of_no_weight_leave_no_trace():
    found = summarize(FLAT, np.array([1.0, 2.0]), np.zeros(2))
    assert (found.count, found.weight, found.mean, found.std, found.quantile(0.5)) == (
        2,
        0,
        0,
        0,
        0,
    )
    assert found.merge(summarize(FLAT, np.array([4.0]), np.ones(1))).mean == 4.0
