"""Objects that are cut and sorted, columns that are derived: on arrays and on real files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import BranchError, ConfigError, InvalidValueError
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.preparation import (
    DerivedColumn,
    ObjectGroup,
    Preparation,
    RawBranch,
)
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from tests.helpers.samples import event_arrays, write_events

NUMBERS = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 30.0, 30.5]), st.floats(-100, 100)
)
EVENTS = st.lists(st.lists(st.tuples(NUMBERS, st.integers(0, 5)), max_size=6), max_size=8)


def prepared(jets: dict[str, Jagged], **group: Any) -> dict[str, Any]:
    preparation = Preparation(
        branches=tuple(
            RawBranch(name=name, kind="jagged", dtype=str(column.dtype))
            for name, column in jets.items()
        ),
        objects=(ObjectGroup(name="Jet", members=tuple(jets), **group),),
        columns=(DerivedColumn(name="n", expression="count(Jet_pt == Jet_pt)"),
                 DerivedColumn(name="twice", expression="2 * n")),
    )  # fmt: skip
    return preparation(jets, [*jets, "twice"])


@given(events=EVENTS, descending=st.booleans(), cut=st.booleans())
def test_cut_and_order_are_those_of_plain_python(
    events: list[list[tuple[float, int]]], descending: bool, cut: bool
) -> None:
    jets = {
        "Jet_pt": Jagged.from_lists([[pt for pt, _ in event] for event in events], np.float64),
        "Jet_id": Jagged.from_lists(
            [[number for _, number in event] for event in events], np.int32
        ),
    }
    selection = "Jet_pt > 20 | Jet_id == 3" if cut else None
    found = prepared(jets, selection=selection, sort_by="Jet_pt", descending=descending)

    def place(jet: tuple[float, int]) -> tuple[bool, float]:
        return math.isnan(jet[0]), (-jet[0] if descending else jet[0])

    expected = [
        sorted((jet for jet in event if not cut or jet[0] > 20 or jet[1] == 3), key=place)
        for event in events
    ]  # Python's sort is stable too
    assert found["Jet_id"].to_lists() == [[number for _, number in event] for event in expected]
    assert str(found["Jet_pt"].to_lists()) == str([[float(pt) for pt, _ in e] for e in expected])
    real = [sum(not math.isnan(pt) for pt, _ in event) for event in expected]
    assert found["twice"].tolist() == [2 * n for n in real]


def config_of(path: Path, **document: Any) -> DatasetConfig:
    return DatasetConfig.model_validate({"samples": [{"files": str(path)}], **document})


def all_events(dataset: Dataset) -> dict[str, Any]:
    with EventStream(dataset, None) as stream:
        return next(EpochOptions(10_000, shuffle=False, seed=0).epoch().batches(stream, None))


def test_derived_columns_are_labels_weights_selections_and_splits(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 500)
    sample = {"files": str(path), "label": "hard", "weight": "half",
              "selection": "HT > 20 & half > 0"}  # fmt: skip
    dataset = Dataset.prepare(
        DatasetConfig.model_validate(
            {
                "samples": [sample],
                "objects": {"Jet": {"selection": "Jet_pt > 10"}},
                "columns": {
                    "HT": "sum(Jet_pt)", "hard": "MET > 30", "half": "abs(weight) / 2",
                    "part": "run_number % 3",
                },
                "features": ["MET", {"branch": "n10", "expression": "count(Jet_pt > 10)",
                                     "scaling": "none"}],
                "task": "binary",
                "split": {"branch": "part", "values": {"train": [0, 1], "test": 2}},
            }
        )
    )  # fmt: skip
    batch, raw = all_events(dataset), event_arrays(500, 0)
    jets = raw["Jet_pt"][raw["Jet_pt"] > 10]  # type: ignore[operator, index]
    ht = ak.to_numpy(ak.sum(ak.values_astype(jets, np.float64), axis=1))
    chosen = np.flatnonzero(ht > 20)
    np.testing.assert_array_equal(batch["event"][:, 1], chosen)
    np.testing.assert_array_equal(batch["label"], np.asarray(raw["MET"])[chosen] > 30)
    np.testing.assert_allclose(batch["weight"], np.abs(np.asarray(raw["weight"]))[chosen] / 2)
    np.testing.assert_array_equal(batch["x"][:, 1], ak.num(jets)[chosen])
    numbers = np.asarray(raw["run_number"])[chosen]
    assert dataset.specs.events("test") == (numbers % 3 == 2).sum()
    assert {branch.name for branch in dataset.transform.branches} == {"MET", "Jet_pt"}


def test_members_of_different_lengths_are_told_with_file_and_entry(tmp_path: Path) -> None:
    path = tmp_path / "bad.root"
    eta = [[0.1], [0.2, 0.3]] * 50
    eta[42] = [0.1, 0.2]  # of one jet
    with uproot.recreate(path) as file:
        file["Events"] = {
            "Jet_pt": ak.Array([[30.0], [40.0, 50.0]] * 50), "Jet_eta": ak.Array(eta),
        }  # fmt: skip
    config = config_of(path, features=["Jet_*"], objects={"Jet": {"sort_by": "Jet_pt"}})
    with pytest.raises(InvalidValueError, match=r"Jet_eta has 2 values and Jet_pt 1") as fault:
        Dataset.prepare(config)
    assert f"file {path}, tree Events" in str(fault.value)
    assert "entry 42]" in str(fault.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"columns": {"a": "b + 1", "b": "a * 2"}}, "columns: . needs . needs .*circle"),
        ({"columns": {"a": "Met + 1"}}, r"columns.a: .* no branch 'Met'; did you mean 'MET'"),
        ({"columns": {"MET": "2 * Jet_pt"}}, "'MET' is a branch of .*; choose another name"),
        ({"columns": {"a": "1 + 1"}}, "columns.a: '1 \\+ 1' names no branch"),
        ({"columns": {"a": "__import__('os')"}}, "columns.a: "),
        ({"columns": {"a": "sqr(MET)"}}, "no function 'sqr'; did you mean 'sqrt'"),
        ({"objects": {"Jet": {"selection": "MET > 3"}}}, "has one value an event"),
        ({"objects": {"Jet": {"selection": "HT > 3"}}, "columns": {"HT": "MET"}},
         r"objects.Jet.selection: .* cannot use 'HT'. Write: selection: \(MET\) > 3"),
        (
            {"objects": {"Jet": {}, "Other": {"branches": "Jet_id"}}},
            "'Jet_id' belongs to Jet and to Other",
        ),
        (
            {"features": [{"branch": "a", "expression": "MET"}], "columns": {"a": "2*MET"}},
            "'a' has two expressions",
        ),
        ({"inputs": {"s": {"kind": "set", "features": ["MET"]}}}, "set inputs are made of jagged"),
        (
            {"inputs": {"i": {"kind": "image", "axes": [{"branch": "MET", "bins": 3}]}}},
            "image inputs are made of jagged",
        ),
    ],
)  # fmt: skip
def test_configs_that_make_no_sense(tmp_path: Path, document: dict[str, Any], message: str) -> None:
    path = write_events(tmp_path / "a.root", 40)
    with pytest.raises((ConfigError, BranchError, ValueError), match=message):
        Dataset.prepare(config_of(path, **document))


def test_what_is_computed_from_the_label_is_no_feature(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 40)
    sample = {"files": str(path), "label": "passes"}
    config = {"samples": [sample], "columns": {"half": "passes / 2", "leak": "half + MET"}}
    for document in ({"features": ["leak"]}, {"features": "*", "exclude": ["half"]}):
        with pytest.raises(ConfigError, match="'leak' is computed from the label, 'passes'"):
            Dataset.prepare(DatasetConfig.model_validate(config | document))


def test_a_group_without_branches_names_what_there_is(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 40)
    with pytest.raises(BranchError, match=r"objects Jets: no jagged branch matches 'Jets_\*'"):
        scan(config_of(path, objects={"Jets": {}}))


def test_the_transform_holds_what_it_needs_and_no_more(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 100)
    dataset = Dataset.prepare(
        config_of(
            path, features=["HT"], objects={"Jet": {"sort_by": "Jet_id"}},
            columns={"HT": "sum(Jet_pt)", "unused": "MET * 2"},
        )
    )  # fmt: skip
    preparation = dataset.transform.preparation
    assert [branch.name for branch in preparation.branches] == ["Jet_pt", "Jet_id"]
    assert [column.name for column in preparation.columns] == ["HT"]


def test_specs_of_other_definitions_are_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 100)
    hashes = {
        Dataset.prepare(
            config_of(path, features=["HT"], columns={"HT": text}, objects={"Jet": jets})
        ).specs.hash
        for text in ("sum(Jet_pt)", "max(Jet_pt)")
        for jets in ({"selection": "Jet_pt > 5"}, {"selection": "Jet_pt > 6"})
    }
    assert len(hashes) == 4
