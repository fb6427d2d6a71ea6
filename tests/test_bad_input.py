"""Every fault of input gives its own error that names the place; nothing is lost silently."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hepdata_adapters import DatasetConfig, Sample, Specs, compute_specs
from hepdata_adapters.common.config.config_file import MAX_CONFIG_BYTES, load_config
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import (
    BranchError,
    ConfigError,
    DataError,
    FileError,
    HepDataError,
    InvalidValueError,
    SchemaError,
    SpecsError,
    TreeError,
)
from hepdata_adapters.common.inference.input_files import scan_inputs
from hepdata_adapters.torch import RootDataModule, RootIterableDataset

MINIMAL = "samples: [{files: a.root, label: 1}]\n"


def write(
    path: Path, size: int = 60, *, tree: str = "Events", extra_trees: int = 0, **columns: Any
) -> Path:
    """A file with float32 ``MET`` and jagged ``Jet_pt``, plus or replaced by ``columns``.

    A column given as a type only (a string) is written as a counter of that type; None
    leaves it out.
    """
    lengths = np.arange(size) % 4
    arrays: dict[str, Any] = {
        "MET": np.linspace(0, 100, size, dtype=np.float32),
        "Jet_pt": ak.unflatten(np.arange(lengths.sum(), dtype=np.float32), lengths),
    } | columns
    filled = {
        name: np.arange(size).astype(values) if isinstance(values, str) else values
        for name, values in arrays.items()
        if values is not None
    }
    types = {
        name: "var * float32"
        if isinstance(values, ak.Array)
        else np.dtype((values.dtype, values.shape[1:]))
        for name, values in filled.items()
    }
    with uproot.recreate(path) as file:
        for name in (tree, *(f"{tree}{number}" for number in range(extra_trees))):
            file.mktree(name, types)
            if size:
                file[name].extend(filled)
    return path


def stream(samples: Any, **options: Any) -> RootIterableDataset:
    """A dataset read to its end."""
    dataset = RootIterableDataset(samples, batch_size=16, progress=False, **options)
    for _ in dataset:
        pass
    return dataset


def says(*texts: object) -> str:
    """A pattern for a message that holds all these texts, in any order, in one line."""
    return "^" + "".join(f"(?=.*{re.escape(str(text))})" for text in texts) + r".*\Z"


# files


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=says("no such file", tmp_path / "none.root")):
        stream(tmp_path / "none.root")


def test_a_glob_without_match_is_named(tmp_path):
    with pytest.raises(FileError, match=says("no file matches", "none_*.root")):
        stream(str(tmp_path / "none_*.root"))


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(FileError, match=says("directory", tmp_path)):
        stream(tmp_path)


@pytest.mark.parametrize("content", [b"", b"root", b"<html>404</html>" * 100, b"\x00" * 5000])
def test_a_file_that_is_not_root_is_named(tmp_path, content):
    path = tmp_path / "page.root"
    path.write_bytes(content)
    with pytest.raises(FileError, match=says(path)):
        stream(path)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0])
def test_a_truncated_copy_is_named_wherever_it_was_cut(tmp_path, part):
    content = write(tmp_path / "whole.root", 2000).read_bytes()
    path = tmp_path / "cut.root"
    path.write_bytes(content[: min(int(len(content) * part), len(content) - 1)])
    with pytest.raises(FileError, match=says("truncated", path)):
        stream(path)


def test_a_file_truncated_after_the_scan_is_noticed(tmp_path):
    path = write(tmp_path / "whole.root", 2000)
    dataset = RootIterableDataset(path, batch_size=16, progress=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileError, match=says("truncated", path)):
        list(dataset)


def test_a_file_replaced_after_the_scan_is_noticed(tmp_path):
    path = write(tmp_path / "a.root")
    dataset = RootIterableDataset(path, batch_size=16, progress=False)
    write(path)
    with pytest.raises(FileError, match=says("replaced", path)):
        list(dataset)


def test_the_same_file_twice_is_refused_however_it_is_spelt(tmp_path):
    path = write(tmp_path / "a.root")
    link = tmp_path / "link.root"
    link.symlink_to(path)
    for other in (path, tmp_path / "." / ".." / tmp_path.name / "a.root", link):
        with pytest.raises(ConfigError, match=says("listed twice", "a.root", "Events")):
            stream([path, other])
    with pytest.raises(ConfigError, match="listed twice"):
        stream({str(path): 1, f"{path}:Events": 0})


# trees


def test_a_wrong_tree_name_shows_the_nearest(tmp_path):
    path = write(tmp_path / "a.root")
    with pytest.raises(TreeError, match=says("no tree 'Evnts'", "did you mean 'Events'?", path)):
        stream(f"{path}:Evnts")


def test_several_trees_and_none_named_shows_them(tmp_path):
    path = write(tmp_path / "a.root", extra_trees=2)
    with pytest.raises(TreeError, match=says("Events, Events0, Events1", "FILE:TREE", path)):
        stream(path)
    assert len(stream(f"{path}:Events1")) == 4


def test_a_file_without_trees_says_so(tmp_path):
    path = tmp_path / "histogram.root"
    with uproot.recreate(path) as file:
        file["h"] = np.histogram([1.0, 2.0])
    with pytest.raises(TreeError, match=says("there is none", path)):
        stream(path)


def test_two_different_trees_for_one_file_is_a_contradiction(tmp_path):
    path = write(tmp_path / "a.root", extra_trees=1)
    with pytest.raises(ConfigError, match=says("Events0", "a.root:Events")):
        stream([Sample(files=f"{path}:Events", tree="Events0")])


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


# files of one dataset that disagree


def test_a_branch_that_one_file_lacks_is_named(tmp_path):
    full, bare = write(tmp_path / "a.root"), write(tmp_path / "b.root", MET=None)
    with pytest.raises(SchemaError, match=says("has MET", full, f"{bare}:Events has not")):
        stream([full, bare])
    with pytest.raises(BranchError, match=says("no branch 'MET'", bare, "tree Events")):
        stream([full, bare], features=["MET"])
    assert stream([full, bare], features=["Jet_pt"]).prepared.manifest.entries == 120


@pytest.mark.parametrize(
    ("column", "found"),
    [
        (np.arange(60, dtype=np.float64), "float64"),
        (np.arange(60), "int64"),
        (ak.unflatten(np.arange(60, dtype=np.float32), [1] * 60), "float32[]"),
        (np.zeros((60, 3), np.float32), "float32[3]"),
    ],
    ids=["dtype", "integer", "jagged", "array"],
)
def test_a_branch_of_two_types_is_named_with_both(tmp_path, column, found):
    one, other = write(tmp_path / "a.root"), write(tmp_path / "b.root", MET=column)
    with pytest.raises(
        SchemaError,
        match=says(f"is {found} here but float32 in {one}", other, "tree Events", "branch MET"),
    ):
        stream([one, other], features=["MET"])
    with pytest.raises(SchemaError, match=says("MET", one, other)):
        stream([one, other])


def test_files_that_do_not_fit_a_trained_model_are_named(tmp_path):
    transform = stream(write(tmp_path / "a.root")).prepared.transform
    other = write(tmp_path / "b.root", MET="int32")
    with pytest.raises(SchemaError, match=says("int32", "float32", other, "branch MET")):
        scan_inputs([str(other)], transform)
    bare = write(tmp_path / "c.root", MET=None)
    with pytest.raises(BranchError, match=says("no branch 'MET'", bare)):
        scan_inputs([str(bare)], transform)


# empty files


def test_an_empty_file_among_others_is_fine_and_noted(tmp_path):
    full, empty = write(tmp_path / "a.root"), write(tmp_path / "b.root", 0)
    dataset = stream([empty, full])
    assert dataset.ledger.count("events delivered") == 60
    assert dataset.ledger.count("files without events", f"{empty}:Events") == 1
    assert dataset.ledger.count("files without events") == 1


def test_all_files_empty_is_an_error_that_names_them(tmp_path):
    files = [write(tmp_path / f"{name}.root", 0) for name in "ab"]
    with pytest.raises(DataError, match=says("all files are empty", *files)):
        stream(files)


def test_too_few_events_for_a_training_split_is_an_error(tmp_path):
    path = write(tmp_path / "a.root", 1)
    split = {"train": 0.0, "validation": 0.5, "test": 0.5}
    with pytest.raises(DataError, match=says("training split is empty", "train 0")):
        compute_specs(DatasetConfig(samples=[Sample(files=path)], split=split))


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


# config files


def config_error(folder: Path, text: str | bytes, overrides: tuple[str, ...] = ()) -> str:
    """The one line that a config file gets; it names the file unless ``--set`` is at fault."""
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or message.startswith("--set")
    return message


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("sampels: 1", "sampels", "samples"),
        ("splitt: {}", "splitt", "split"),
        ("split: {trian: 0.5}", "split.trian", "train"),
        ("training: {epoch: 3}", "training.epoch", "epochs"),
        ("defaults: {scalling: none}", "defaults.scalling", "scaling"),
        ("features: [{branch: x, lenght: 2}]", "features.0.lenght", "length"),
        ("model: {hiden: [3]}", "model.hiden", "hidden"),
        ("batch-size: 3", "batch-size", "training.batch_size"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(tmp_path, text, key, nearest):
    message = config_error(tmp_path, MINIMAL + text)
    assert f"unknown key {key!r}; " in message
    assert nearest in message


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ("[{files: a.root, lable: 1}]", "unknown key 'samples.0.lable'; did you mean 'label'?"),
        ("[{files: a.root, weight: {brunch: w}}]", "unknown key 'samples.0.weight.brunch'"),
        ("[{files: 5}]", "samples.0.files: Input should be a valid list"),
        ("[{files: 2026-01-01}]", "samples.0.files: Input should be a valid list"),
        ("[{files: []}]", "samples.0.files: List should have at least 1 item"),
        ("[]", "samples: List should have at least 1 item"),
        ("[a.root]", "samples.0: Input should be a valid mapping"),
        ("5", "samples: Input should be a valid list"),
        ("[{label: 1}]", "samples.0.files: Field required"),
        ("[{files: a.root, weight: .nan}]", "samples.0.weight.constant: Input should be a finite"),
    ],
)
def test_wrong_samples_say_what_is_wrong_and_nothing_else(tmp_path, samples, said):
    message = config_error(tmp_path, f"samples: {samples}")
    assert said in message
    assert ";" not in message.replace("; did you mean", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("split: {train: 0.9}", "train + validation + test must be 1"),
        ("split: {train: 1.5}", "split.train"),
        ("split: {train: .nan}", "split.train"),
        ("defaults: {length: 1.5}", "neither a quantile below 1 nor a whole number"),
        ("defaults: {missing: .nan}", "defaults.missing"),
        ("features: x", "features: "),
        ("task: guess", "'binary', 'multiclass' or 'regression'"),
        ("name: ../outside", "name: "),
        ("training: null", "training: Input should be a valid mapping"),
        ("training: {batch_size: 0}", "training.batch_size: "),
        ("training: {seed: -1}", "training.seed: "),
        ("sampling: {chunk_size: 0}", "sampling.chunk_size: "),
    ],
)
def test_a_wrong_value_is_named_by_its_key(tmp_path, text, said):
    assert said in config_error(tmp_path, MINIMAL + text)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "just words", "a: [", "a: b: c", "\tx: 1", "{", "--- 1\n--- 2", b"\xff\xfe\x00",
        b"\x00\x01", "a: 1\na: 2", "? [a]\n: 1", "!!map [1, 2]", "!!int ab", "x: 2026-13-45",
        "!!float x", "!!bool x", "x: 0b_", "x: " + "9" * 5000, "[" * 3000,
        "a: !!binary é", "1: 2",
    ],
)  # fmt: skip
def test_yaml_garbage_is_refused(tmp_path, text):
    config_error(tmp_path, text)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir ['{}']",
        "!!python/object/new:os.mkdir ['{}']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!custom x",
    ],
)
def test_yaml_cannot_run_code(tmp_path, tag):
    made = tmp_path / "made"
    message = config_error(tmp_path, MINIMAL + "name: " + tag.format(made))
    assert "constructor" in message
    config_error(tmp_path, MINIMAL, ("name=" + tag.format(made),))
    assert not made.exists()


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "aliases are not supported" in config_error(tmp_path, "\n".join(lines))


def test_a_huge_config_is_refused_unread(tmp_path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100 * MAX_CONFIG_BYTES)
    with pytest.raises(ConfigError, match=says("larger than", path)):
        load_config(path)


def test_a_missing_config_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match=says("no config file", path)):
            load_config(path)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("x", "write key.sub=value"),
        ("=1", "write key.sub=value"),
        ("a..b=1", "write key.sub=value"),
        ("5=1", "write key.sub=value"),
        ("samples.5.name=x", "there is no item '5'"),
        ("samples.x=1", "there is no item 'x'"),
        ("samples.²=1", "there is no item '²'"),
        ("samples.-1.name=x", "there is no item '-1'"),
        ("features.0=MET", "there is no 'features'"),
        ("training.epochs=[[", "--set training.epochs=[["),
        ("training.epochs=abc", "training.epochs: Input should be a valid integer"),
        ("training.epochs=", "training.epochs: "),
        ("training.epochs=!!int x", "--set training.epochs=!!int x"),
        ("trainning.epochs=3", "unknown key 'trainning'; did you mean 'training'?"),
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'epochs'?"),
        ("name=" + "[" * 3000, "nested more than 50 deep"),
    ],
)
def test_a_bad_override_is_named(tmp_path, assignment, said):
    assert said in config_error(tmp_path, MINIMAL, (assignment,))


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200) | st.text("{}[]:,-&*!?|>'\"%@` \n\tab01.~<=#é", max_size=60))
@example(b"samples: [{files: 5}]")
@example("!!set [1]")
def test_any_bytes_as_config_give_a_config_or_a_config_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError):
        load_config(path)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["branch", "files", "label", "train", "epochs", "x"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(sorted(RunConfig.model_fields)), _VALUES, max_size=5))
def test_any_document_gives_a_config_or_a_config_error(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump({"samples": [{"files": "a.root"}]} | document))
    try:
        load_config(path)
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017 (no error is right too)


# specs files


@pytest.fixture
def two_files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{name}.root", 200) for name in "ab"]


@pytest.fixture
def specs_file(two_files: list[Path], tmp_path: Path) -> Path:
    path = tmp_path / "specs.json"
    compute_specs(config_of(two_files, None)).save(path)
    return path


def config_of(files: list[Path], specs: Path | None, **options: Any) -> DatasetConfig:
    return DatasetConfig(
        samples=[Sample(files=files)], specs=None if specs is None else str(specs), **options
    )


def refused(files: list[Path], specs: Path, **options: Any) -> str:
    """What is said about specs that do not fit; they must stay as they are."""
    before = specs.read_bytes()
    with pytest.raises(SpecsError) as caught:
        RootIterableDataset(config_of(files, specs, **options), progress=False)
    assert specs.read_bytes() == before
    message = str(caught.value)
    assert str(specs) in message
    assert "\n" not in message
    return message


def test_fitting_specs_are_used_and_left_alone(two_files, specs_file):
    before = specs_file.read_bytes()
    dataset = RootIterableDataset(config_of(two_files, specs_file), batch_size=8, progress=False)
    assert dataset.specs == Specs.load(specs_file)
    assert specs_file.read_bytes() == before


def test_specs_of_more_or_fewer_files_are_refused(two_files, specs_file, tmp_path):
    third = write(tmp_path / "c.root", 10)
    assert f"{third} was added" in refused([*two_files, third], specs_file)
    assert f"{two_files[1]} is gone" in refused(two_files[:1], specs_file)
    assert "another order" in refused(two_files[::-1], specs_file)


def test_specs_of_a_rewritten_file_are_refused(two_files, specs_file):
    write(two_files[0], 200)
    message = refused(two_files, specs_file)
    assert f"{two_files[0]} was written again, its content is another" in message
    assert "hepdata-adapters specs" in message


def test_specs_of_another_split_are_refused(two_files, specs_file):
    other = {"train": 0.5, "validation": 0.25, "test": 0.25}
    message = refused(two_files, specs_file, split=other)
    for said in ("split.train is 0.5, was 0.64", "split.validation is 0.25, was 0.16"):
        assert said in message
    assert "split.seed is 1, was 0" in refused(two_files, specs_file, split={"seed": 1})
    assert "split.identity" in refused(two_files, specs_file, split={"identity": "entry"})


def test_specs_without_a_branch_are_refused(two_files, specs_file):
    compute_specs(config_of(two_files, None, features=["MET"])).save(specs_file)
    message = refused(two_files, specs_file)
    assert "no statistics of" in message
    assert "Jet_pt" in message


def test_missing_specs_are_not_made_in_silence(two_files, tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SpecsError, match=says(path)):
            RootIterableDataset(config_of(two_files, path), progress=False)
    assert not (tmp_path / "none.json").exists()


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(b""), "corrupt"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "corrupt"),
        (lambda path: path.write_bytes(b"\xff" * 100), "corrupt"),
        (lambda path: path.write_text("[]"), "corrupt"),
        (edit(lambda d: d.update(version=1)), "version"),
        (edit(lambda d: d.update(format="other")), "format"),
        (edit(lambda d: d.update(extra=1)), "extra"),
        (edit(lambda d: d.pop("branches")), "branches"),
        (edit(lambda d: d["branches"].pop("MET")), "corrupt"),
        (edit(lambda d: d["binding"]["split"].update(seed=3)), "hash does not fit"),
        (edit(lambda d: d["binding"]["files"][0].update(entries=7)), "hash does not fit"),
        (edit(lambda d: d["binding"].update(branches=["MET"])), "hash does not fit"),
        (edit(lambda d: d.update(hash="0" * 64)), "hash does not fit"),
        (edit(lambda d: d["branches"]["MET"].update(mean=1e6)), "corrupt"),
        (edit(lambda d: d["branches"]["MET"].update(minimum="x")), "minimum"),
        (edit(lambda d: d["binding"]["files"][0]["counts"].update(train=[1])), "corrupt"),
        (edit(lambda d: d["binding"]["files"][0]["counts"].pop("test")), "corrupt"),
    ],
    ids=[
        "nothing", "cut", "bytes", "list", "version", "format", "key", "no branches", "branch",
        "seed", "entries", "binding", "hash", "mean", "minimum", "counts", "no counts",
    ],
)  # fmt: skip
def test_corrupt_specs_are_refused_and_left_alone(two_files, specs_file, change, said):
    change(specs_file)
    assert said in refused(two_files, specs_file)


@pytest.fixture(scope="module")
def good_specs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("specs")
    path = folder / "specs.json"
    compute_specs(config_of([write(folder / "a.root")], None)).save(path)
    return path.read_bytes()


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=100)
    | st.recursive(_PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        json.dumps
    )
)
def test_any_bytes_as_specs_give_a_specs_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecsError):
        Specs.load(path)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_flipped_byte_in_specs_is_noticed_or_harmless(tmp_path_factory, good_specs, data):
    place = data.draw(st.integers(0, len(good_specs) - 1))
    byte = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.json"
    path.write_bytes(good_specs[:place] + bytes([byte]) + good_specs[place + 1 :])
    try:
        loaded = Specs.load(path)
    except SpecsError:
        return
    path.write_bytes(good_specs)
    original = Specs.load(path).model_dump()
    changed = loaded.model_dump()
    for document in (original, changed):
        for file in document["binding"]["files"]:
            file.pop("url")  # a file may be moved
    assert changed == original


# arguments of the datasets


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_a_batch_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(ConfigError, match=says("batch_size", repr(size))):
        RootIterableDataset(write(tmp_path / "a.root"), batch_size=size, progress=False)


@pytest.mark.parametrize(("rank", "world_size"), [(2, 2), (3, None), (-1, 2), (0, 0)])
def test_a_rank_outside_the_world_is_refused(tmp_path, rank, world_size):
    path = write(tmp_path / "a.root")
    with pytest.raises(ConfigError, match=f"rank {rank} is not among"):
        RootIterableDataset(path, rank=rank, world_size=world_size, progress=False)


def test_a_rank_in_the_environment_must_be_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ConfigError, match=says("RANK", "first")):
        RootIterableDataset(write(tmp_path / "a.root"), progress=False)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=says("'valid'", "train, validation, test")):
        RootIterableDataset(tmp_path / "a.root", split="valid")


def test_an_unknown_argument_is_named_with_the_nearest():
    for kind in (RootIterableDataset, RootDataModule):
        with pytest.raises(ConfigError, match=says("'featres'", "'features'")):
            kind("a.root", featres=["MET"])


@pytest.mark.parametrize("samples", [None, 5, [], {}, [Sample(files="a.root"), "b.root"], [5]])
def test_samples_of_no_known_kind_are_refused(samples):
    with pytest.raises(HepDataError):
        RootIterableDataset(samples)


def test_a_batch_size_of_zero_is_refused_by_the_data_module(tmp_path):
    path = write(tmp_path / "a.root")
    with pytest.raises(ConfigError, match="batch_size"):
        RootDataModule({str(path): 1}, batch_size=0, progress=False).train_dataloader()


def test_copies_of_a_file_under_another_name_count_as_the_same(tmp_path):
    path = write(tmp_path / "a.root")
    shutil.copy(path, tmp_path / "copy.root")
    with pytest.raises(ConfigError, match=says("listed twice", path, "copy.root")):
        stream([path, tmp_path / "copy.root"])
