"""Values come from the branch that was named, whatever other branches are called."""

from __future__ import annotations

import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters.cli.inspect import describe_file
from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.columns import Columns, Jagged
from hepdata_adapters.common.core.errors import BranchError, ConfigError
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.files.manifest import scan_file
from hepdata_adapters.common.files.read import read_columns
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import describe
from hepdata_adapters.torch import RootIterableDataset
from tests.compare_branches import compare_folder, compare_tree

# written by ROOT: split objects of one class, and branches of one name; see its README
FILE = Path(__file__).parents[2] / "data" / "namesakes.root"
I = np.arange(20)  # noqa: E741
VALUES = {
    "electron/pt": 50 + I, "electron/charge": -1 + 0 * I,
    "muon/pt": 7000 + I, "muon/charge": 1 + 0 * I,
    "tau./tau.pt": 300 + I, "tau./tau.charge": 2 + 0 * I,
    "pt": 100_000 + I,
    "lepton/pt": I, "lepton/charge": 3 + 0 * I,  # the first of two objects of this name
    "n": I % 3,
    "x": I + 0.75,  # a float32, before an int16 of 7
    "z": I + 0.75,  # one value an event, before a jagged one
}  # fmt: skip
LISTS = {
    "jets/jets.pt": [[10 * i + o for o in range(i % 3)] for i in range(20)],
    "fatjets/fatjets.pt": [[-10 * i - o for o in range(i % 3)] for i in range(20)],
    "jets/jets.charge": [[1] * (i % 3) for i in range(20)],
    "fatjets/fatjets.charge": [[-1] * (i % 3) for i in range(20)],
    "w": [[i + o / 8 for o in range(i % 3)] for i in range(20)],  # before an int16 of 7
}


def dataset(*features: str, path: str = f"{FILE}:Events", **options: object) -> RootIterableDataset:
    return RootIterableDataset(
        path, features=[{"branch": name, "scaling": "none"} for name in features],
        batch_size=100, shuffle=False, progress=False, **options,
    )  # fmt: skip


def test_members_of_one_name_in_several_objects_are_not_mixed_up() -> None:
    """All of them had the values of the first: electron/pt those of pt."""
    together = next(iter(dataset(*VALUES)))["x"].numpy()
    np.testing.assert_array_equal(together, np.stack([*VALUES.values()], 1).astype(np.float32))
    for name in ("muon/pt", "lepton/pt", "x"):
        alone = next(iter(dataset(name)))["x"][:, 0].numpy()
        np.testing.assert_array_equal(alone, VALUES[name].astype(np.float32))


def test_jagged_members_and_namesakes() -> None:
    file = scan_file(0, str(FILE), "Events")
    with Source([*LISTS, *VALUES]) as source:
        columns = source.read(file, 3, 17)
    for name, values in LISTS.items():
        column = columns[name]
        assert isinstance(column, Jagged)
        assert column.to_lists() == values[3:17], name
    for name, flat in VALUES.items():
        assert np.array_equal(columns[name], flat[3:17]), name
    assert columns["x"].dtype == np.float32


def test_labels_weights_and_selections_come_from_their_branches() -> None:
    options = {
        "samples": [{"files": f"{FILE}:Events", "label": "muon/charge",
                     "weight": {"branch": "electron/pt"},
                     "selection": "tau./tau.pt > 309 & electron/charge < 0"}],
        "task": "binary",
        "columns": {"ratio": "muon/pt / electron/pt"},
        "features": [{"branch": "ratio", "scaling": "none"}],
    }  # fmt: skip
    config = DatasetConfig.model_validate(options)
    batch = next(iter(RootIterableDataset(config, batch_size=50, shuffle=False, progress=False)))
    assert batch["label"].tolist() == [1] * 10
    assert batch["weight"].tolist() == list(range(60, 70))
    wanted = VALUES["muon/pt"][10:] / VALUES["electron/pt"][10:]
    np.testing.assert_allclose(batch["x"][:, 0].numpy(), wanted, rtol=1e-6)


def test_inspect_counts_the_lengths_of_the_branch_itself() -> None:
    (tree,) = describe_file(f"{FILE}:Events")["trees"]
    found = {branch["name"]: branch for branch in tree["branches"]}
    assert found["w"]["length"]["mean"] == pytest.approx(np.mean(I % 3), abs=1e-3)
    assert (found["x"]["dtype"], found["x"]["namesakes"]) == ("float32", 2)
    assert "namesakes" not in found["pt"]
    json.dumps(found)


def test_which_of_several_branches_is_read_is_said() -> None:
    prepared = Dataset.prepare(
        DatasetConfig.model_validate(
            {"samples": [{"files": f"{FILE}:Events"}], "features": ["x", "pt", "lepton/pt"]}
        )
    )
    said = "\n".join(describe(prepared))
    assert "read x: float32 (the first of 2 of this name)" in said
    assert "read pt" not in said
    notes = prepared.notes().to_dict()
    kind = "branches of a name that an earlier one has (not read)"
    assert notes[kind] == {f"x in {FILE}": 1, f"lepton/pt in {FILE}": 1}


@pytest.mark.parametrize(
    ("name", "candidates"),
    [("pt", "'electron/pt', 'muon/pt'"), ("electron.pt", "'electron/pt'"), ("charge", "'elec")],
)
def test_a_short_name_is_refused_with_the_full_ones(name: str, candidates: str) -> None:
    """There is no `pt` at the top of the tree: which one is meant?"""
    with pytest.raises(BranchError, match=f"give the name in full: {candidates}"):
        dataset(name, path=f"{FILE}:Short")


def test_a_slash_divides_only_where_no_member_has_the_name() -> None:
    known = {"a", "b", "a/b", "e/pt", "pt"}
    assert parse("e/pt + pt", known).names == {"e/pt", "pt"}
    assert parse("e/pt/pt", {*known, "e"}.difference({"e/pt"})).names == {"e", "pt"}
    assert parse("a / b", known).names == {"a", "b"}
    with pytest.raises(ConfigError, match="put spaces around the / to divide"):
        parse("a/b > 1", known)


def test_fields_of_an_rntuple_with_a_member_of_the_same_path(tmp_path: Path) -> None:
    """The type of one and the values of the other; the field of the tree itself counts."""
    path = tmp_path / "a.root"
    record = ak.Array([{"x": 1.5, "y": 2}] * 5)
    with uproot.recreate(path) as file:
        file["Events"] = {
            "b": record, "b.x": np.arange(5) + 100, "muon.pt": np.arange(5) * 1.0,
        }  # fmt: skip
    file = scan_file(0, str(path), None)
    assert file.schema["b.x"].namesakes == 2
    with Source(["b.x", "b.y", "muon.pt"]) as source:
        columns = source.read(file, 1, 4)
    assert columns["b.x"].tolist() == [101, 102, 103]
    assert columns["b.x"].dtype == np.int64
    assert columns["b.y"].tolist() == [2, 2, 2]
    assert columns["muon.pt"].tolist() == [1.0, 2.0, 3.0]


class TestComparison:
    """`python -m tests.compare_branches`, which does the same for whole folders."""

    def test_every_branch_is_what_uproot_reads_from_it(self) -> None:
        found = [compare_tree(FILE, name) for name in ("Events", "Short")]
        assert [(tree.compared, tree.different) for tree in found] == [(17, []), (4, [])]
        assert found[0].unread == {"type vector<Lepton>": 2}

    @pytest.mark.parametrize("name", ["uproot-HZZ.root:events", "uproot-Zmumu.root:events"])
    def test_files_of_others(self, name: str) -> None:
        file, _, tree = name.partition(":")
        path = Path(__file__).parents[4] / "shared" / "data" / file
        if not path.is_file():
            pytest.skip("the shared data are not here")
        found = compare_tree(path, tree)
        assert found.compared == {"uproot-HZZ.root": 51, "uproot-Zmumu.root": 19}[file]
        assert not found.different

    def test_a_difference_and_a_damaged_file_are_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with uproot.recreate(tmp_path / "a.root") as file:
            file["t"] = {"x": np.arange(50.0), "y": np.arange(50.0) + 100}
        (tmp_path / "b.root").write_bytes(b"no ROOT file" * 50)
        right, damaged = compare_folder(tmp_path)
        assert (right.compared, right.values, right.different) == (2, 200, [])
        assert damaged.unread == {"not a ROOT file": 1}

        def swapped(tree: object, branches: list[Branch], *entries: int) -> Columns:
            columns = read_columns(tree, branches, *entries)
            return dict(zip(columns, reversed(columns.values()), strict=True))

        monkeypatch.setattr("hepdata_adapters.common.files.source.read_columns", swapped)
        (wrong, _) = compare_folder(tmp_path)
        assert len(wrong.different) == 4
