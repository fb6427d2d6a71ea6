"""A fault of a file or tree, or of several that disagree, is an error that names them."""

from __future__ import annotations

import shutil

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.core.errors import (
    BranchError,
    ConfigError,
    DataError,
    FileError,
    SchemaError,
    TreeError,
)
from hepdata_adapters.common.inference.input_files import scan_inputs
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.faults import says, stream, write

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


def test_copies_of_a_file_under_another_name_count_as_the_same(tmp_path):
    path = write(tmp_path / "a.root")
    shutil.copy(path, tmp_path / "copy.root")
    with pytest.raises(ConfigError, match=says("listed twice", path, "copy.root")):
        stream([path, tmp_path / "copy.root"])


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
