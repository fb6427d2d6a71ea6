"""A fault of a branch or its values is an error that names file, branch and entry."""

from __future__ import annotations

import re
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import BranchError, ConfigError, InvalidValueError
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.faults import says, stream, write

# branches


def test_an_unknown_branch_shows_the_nearest(tmp_path):
    path = write(tmp_path / "a.root")
    with pytest.raises(
        BranchError, match=says("no branch 'Jet_pT'", "'Jet_pt'", path, "tree Events")
    ):
        stream(path, features=["MET", "Jet_pT"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": ["Muon_*"]}, ["no branch matches 'Muon_*'", "MET"]),
        ({"samples": [{"label": "is_sgnal"}]}, ["no branch 'is_sgnal'", "'is_signal'"]),
        ({"samples": [{"weight": "genWeigth"}]}, ["no branch 'genWeigth'", "'genWeight'"]),
        ({"split": {"identity": ["evnt"]}}, ["no branch 'evnt'", "'event'"]),
    ],
    ids=["pattern", "label", "weight", "identity"],
)
def test_an_unknown_branch_in_any_role_shows_the_nearest(tmp_path, options, said):
    path = write(tmp_path / "a.root", is_signal="int32", genWeight="float64", event="int64")
    document = {"samples": [{}]} | options
    document["samples"][0]["files"] = str(path)
    with pytest.raises(BranchError, match=says(*said, path, "tree Events")):
        compute_specs(DatasetConfig(**document))


def test_an_exclusion_that_matches_nothing_shows_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=says("no branch matches 'Jet_pT'", "'Jet_pt'")):
        stream(write(tmp_path / "a.root"), exclude=["Jet_pT"])


def test_excluding_everything_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no features are left"):
        stream(write(tmp_path / "a.root"), exclude=["*"])


def test_a_feature_twice_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="'MET' is listed twice"):
        stream(write(tmp_path / "a.root"), features=["MET", "M*"])


@pytest.mark.parametrize(
    ("file", "branch", "typename"),
    [
        ("uproot-Zmumu.root", "Type", "char*"),
        ("uproot-HZZ-objects.root", "jetp4", "TLorentzVector"),
        ("uproot-issue64.root", "creaproc", "string"),
    ],
)
def test_a_kind_that_is_not_read_is_excluded_by_name_and_an_error_when_asked_for(
    shared_data, file, branch, typename
):
    path = shared_data / file
    dataset = RootIterableDataset(path, batch_size=512, progress=False)
    assert typename in dataset.prepared.layout.excluded[branch]
    assert "not read" in dataset.prepared.layout.excluded[branch]
    assert dataset.ledger.count("branches excluded", branch) == 1
    assert branch not in {name.split("[")[0] for name in dataset.feature_names}
    with pytest.raises(
        BranchError, match=says("cannot be read as numbers", typename, path, f"branch {branch}")
    ):
        RootIterableDataset(path, features=[branch], progress=False)


def test_nested_vectors_of_numbers_are_named_and_excluded(tmp_path):
    path = tmp_path / "nested.root"
    nested = ak.Array([[[1.0, 2.0], []], [], [[3.0]]] * 20)
    with uproot.recreate(path) as file:
        file["Events"] = {"MET": np.arange(60.0), "hits": nested}
    dataset = stream(path)
    assert dataset.feature_names == ["MET"]
    assert "not read" in dataset.prepared.layout.excluded["hits"]
    with pytest.raises(BranchError, match=says("cannot be read as numbers", "branch hits", path)):
        stream(path, features=["hits"])


# labels and weights


def test_a_label_for_some_samples_only_names_those_without(tmp_path):
    one, other = write(tmp_path / "a.root"), write(tmp_path / "b.root")
    samples = [{"files": str(one), "label": 1}, {"files": str(other)}]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"samples": samples}))
    with pytest.raises(ConfigError, match=says("without a label", "b.root", path)):
        load_config(path)


def test_no_labels_at_all_cannot_be_fitted(tmp_path):
    from hepdata_adapters.torch.training.train import fit

    config = RunConfig(samples=[Sample(files=write(tmp_path / "a.root"))])
    with pytest.raises(ConfigError, match="no sample has a label"):
        fit(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("labels", "task", "said"),
    [
        ([1, -1], "binary", "label -1 does not fit task binary"),
        ([0, 2], "binary", "label 2 does not fit task binary"),
        ([0, 0.5], "multiclass", "label 0.5 does not fit task multiclass"),
        ([0, 2], None, "neither 0 and 1 nor"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, task, said):
    files = [write(tmp_path / f"{number}.root") for number in range(2)]
    with pytest.raises(ConfigError, match=said):
        stream(dict(zip(map(str, files), labels, strict=True)), task=task)


@pytest.mark.parametrize("label", [float("nan"), float("inf")])
def test_a_label_that_is_no_number_is_refused(label):
    with pytest.raises(ConfigError, match=r"label: Input should be a finite number"):
        RootIterableDataset({"a.root": label}, task="regression")


@pytest.mark.parametrize(
    ("task", "value", "wish"),
    [
        ("binary", np.nan, "0 or 1"),
        ("binary", 2.0, "0 or 1"),
        ("multiclass", 0.5, "a class number"),
        ("multiclass", -1.0, "a class number"),
        ("regression", np.nan, "a finite number"),
        ("regression", -np.inf, "a finite number"),
    ],
)
def test_a_bad_label_in_a_branch_is_named_with_its_entry(tmp_path, task, value, wish):
    target = np.ones(60, np.float32)
    target[41] = value
    path = write(tmp_path / "a.root", target=target)
    with pytest.raises(
        InvalidValueError, match=says(wish, path, "tree Events", "branch target", "entry 41")
    ):
        stream({str(path): "target"}, task=task)


@pytest.mark.parametrize("role", ["label", "weight"])
def test_a_jagged_label_or_weight_is_refused(tmp_path, role):
    path = write(tmp_path / "a.root")
    with pytest.raises(
        BranchError, match=says("one number an event", "float32[]", path, "branch Jet_pt")
    ):
        stream([Sample(**{"files": path, role: "Jet_pt"})], task="regression")


def test_a_label_branch_of_numbers_needs_a_task(tmp_path):
    path = write(tmp_path / "a.root", target="int32")
    with pytest.raises(ConfigError, match=says("'target' is int32", "set task")):
        stream({str(path): "target"})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_named_with_its_entry(tmp_path, value):
    weight = np.ones(60)
    weight[7] = value
    path = write(tmp_path / "a.root", genWeight=weight)
    with pytest.raises(
        InvalidValueError,
        match=says("weight must be finite", path, "tree Events", "branch genWeight", "entry 7"),
    ):
        stream([Sample(files=path, weight="genWeight")])


# values of features


@pytest.fixture
def with_nan(tmp_path: Path) -> Path:
    """A file with one NaN and one infinity in ``MET``, and one NaN in ``Jet_pt``."""
    met = np.linspace(0, 100, 60, dtype=np.float32)
    met[[23, 24]] = np.nan, np.inf
    lengths = np.arange(60) % 4
    pt = np.arange(lengths.sum(), dtype=np.float32)
    pt[lengths[:31].sum()] = np.nan  # the first jet of event 31
    return write(tmp_path / "nan.root", MET=met, Jet_pt=ak.unflatten(pt, lengths))


@pytest.mark.parametrize(("branch", "entry"), [("MET", 23), ("Jet_pt", 31)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_nan_is_an_error_by_default_and_named_with_its_entry(with_nan, branch, entry, shuffle):
    with pytest.raises(
        InvalidValueError,
        match=says("NaN", "missing: median", with_nan, "tree Events", f"branch {branch}"),
    ) as caught:
        stream(with_nan, features=[branch], shuffle=shuffle)
    found = int(re.search(r"entry (\d+)", str(caught.value))[1])
    assert found in ((23, 24) if branch == "MET" else (entry,))


def test_nan_with_a_policy_is_filled_masked_and_counted(with_nan):
    dataset = stream(with_nan, defaults={"missing": "mean", "scaling": "none"}, shuffle=False)
    counts = {"MET": 2, "Jet_pt": 1}
    for branch, count in counts.items():
        assert dataset.ledger.count("values filled (NaN or infinity)", branch) == count
    (x, mask) = next(
        (batch["x"], batch["mask"]) for batch in dataset if (batch["event"][:, 1] == 23).any()
    )
    row = 23 % 16
    assert not mask[row, 0]
    assert mask[row + 2, 0]
    statistics = dataset.specs.branches["MET"]
    assert float(x[row, 0]) == pytest.approx(statistics.mean, rel=1e-6)
    assert statistics.nan + statistics.positive_infinity <= 2


def test_a_feature_of_nothing_but_nan_has_no_mean(tmp_path):
    path = write(tmp_path / "a.root", MET=np.full(60, np.nan, np.float32))
    with pytest.raises(ConfigError, match=says("'MET'", "no finite value", "mean")):
        stream(path, features=["MET"], defaults={"missing": "mean"})


def test_an_overlong_event_is_an_error_if_asked_and_named(tmp_path):
    path = write(tmp_path / "a.root")
    feature = {"branch": "Jet_pt", "length": 2, "overflow": "error"}
    with pytest.raises(
        InvalidValueError,
        match=says("3 values, at most 2", "truncate", path, "tree Events", "branch Jet_pt"),
    ) as caught:
        stream(path, features=[feature])
    assert int(re.search(r"entry (\d+)", str(caught.value))[1]) % 4 == 3
    dataset = stream(path, features=[feature | {"overflow": "truncate"}])
    assert dataset.ledger.count("values beyond the pad length", "Jet_pt") == 15
    assert dataset.ledger.count("events with values beyond the pad length", "Jet_pt") == 15
