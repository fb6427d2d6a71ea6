"""Files of others with default features: what is of no use is left out by name, the rest works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.patterns import matching
from hepdata_adapters.common.core.errors import BranchError, ConfigError
from hepdata_adapters.common.files.manifest import scan_file
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import describe, prepare
from hepdata_adapters.common.transform.usable_features import refuse

LEAVES = Path(__file__).parents[2] / "data" / "leaves.root"
"""Written by ROOT: 98 entries; leaves that are arrays, a branch never and one partly filled."""
REAL = {
    "Higgs_data": [("sig_tree", 1), ("bkg_tree", 0)],
    "tmva_multiclass_example": [("TreeS", 0), ("TreeB0", 1), ("TreeB1", 2), ("TreeB2", 3)],
    "tmva_reg_example": [("TreeR", "fvalue")],
    "uproot-HZZ": [("events", "NJet > 2")],
    "uproot-HZZ-zstd": [("events", "NMuon > 1")],
    "uproot-HZZ-lz4": [("events", "triggerIsoMu24")],
    "uproot-HZZ-objects": [("events", "eventweight > 0.01")],
    "uproot-Zmumu": [("events", "M > 90")],
    "nanoAOD_2015_CMS_Open_Data_ttbar": [("Events", "nJet > 5")],
    "Run2012BC_DoubleMuParked_Muons_1000evts_rntuple_v1-0-0-0": [("Events", "nMuon > 2")],
    "cmsopendata2015_ttbar_19980_NANOAOD_RNTupleImporter_rntuple_v1-0-0-1": [
        ("Events", "MET_pt > 50")
    ],
    "uproot-issue64": [("events/events", "eventid % 2 == 0")],
}


def write(path: Path, seed: int, size: int = 300) -> Path:
    """Events of which some branches are of no use, and some miss values here and there."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 4, size)
    with uproot.recreate(path) as file:
        file.mktree("Events", {
            "x": "float32", "rare": "float32", "nothing": "float64", "Jet_pt": "var * float32",
            "Tau_pt": "var * float32", "flag": "bool",
        })  # fmt: skip
        rare = random.normal(size=size).astype(np.float32)
        rare[::50] = np.nan
        pt = random.exponential(30, lengths.sum()).astype(np.float32)
        pt[7] = np.inf
        file["Events"].extend({
            "x": random.normal(seed, 1, size).astype(np.float32),
            "rare": rare,
            "nothing": np.full(size, np.nan),
            "Jet_pt": ak.unflatten(pt, lengths),
            "Tau_pt": ak.unflatten(np.zeros(0, np.float32), np.zeros(size, int)),
            "flag": np.zeros(size, bool),
        })  # fmt: skip
    return path


def delivered(dataset: Dataset) -> list[dict[str, Any]]:
    with EventStream(dataset, None) as stream:
        return list(EpochOptions(1000, shuffle=False, seed=0).epoch().batches(stream, None))


def test_features_of_no_use_are_left_out_by_name_and_missing_values_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.root", 0)
    dataset = prepare(str(path), {})
    excluded = dataset.layout.excluded
    assert excluded["nothing"] == "no finite value in training"
    assert excluded["Tau_pt"] == "no values in training"
    assert set(excluded) == {"nothing", "Tau_pt"}
    printed = capsys.readouterr().err
    assert "excluded nothing: no finite value in training" in printed
    assert "the median of training (events): rare (6), Jet_pt (1)" in printed
    assert dataset.notes().count("branches excluded", "nothing") == 1
    (batch,) = delivered(dataset)
    column = dataset.transform.feature_names.index("rare")
    rows = np.arange(0, 300, 50)
    assert not batch["mask"][rows, column].any()
    stats = dataset.specs.branches["rare"]
    wanted = (stats.quantile(0.5) - stats.mean) / stats.std
    np.testing.assert_allclose(batch["x"][rows, column], wanted, rtol=1e-5, atol=1e-6)
    assert batch["mask"][1, column]


def test_where_a_value_is_missing_in_no_training_event_it_is_still_filled(tmp_path: Path) -> None:
    """The specs say where values are missing in the other splits, and nothing else of these."""
    values = np.arange(90, dtype=np.float32)
    values[80] = np.nan
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "float32", "part": "int32"})
        file["Events"].extend({"x": values, "part": (np.arange(90) // 30).astype(np.int32)})
    split = {"branch": "part", "values": {"train": 0, "validation": 1, "test": 2}}
    config = DatasetConfig.model_validate({"samples": [{"files": str(path)}], "split": split})
    dataset = Dataset.prepare(config)
    stats = dataset.specs.branches["x"]
    assert (stats.count, stats.nan, stats.maximum) == (30, 0, 29)
    assert dataset.specs.binding.files[0].missing == {"x": 1}
    (batch,) = delivered(dataset)
    assert not batch["mask"][80, 0]
    assert batch["x"][80, 0] == pytest.approx((stats.quantile(0.5) - stats.mean) / stats.std)


@pytest.mark.parametrize(("highest", "said"), [(3, "class 3"), (150, "class 100 and above")])
def test_classes_that_no_training_event_has_are_refused_before_the_training(
    tmp_path: Path, highest: int, said: str
) -> None:
    label = np.arange(90, dtype=np.int32) % 3
    label[80] = highest
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "float32", "label": "int32", "part": "int32"})
        part = (np.arange(90) // 30).astype(np.int32)
        file["Events"].extend({"x": label * 1.5, "label": label, "part": part})
    config = DatasetConfig.model_validate({
        "samples": [{"files": str(path), "label": "label"}], "task": "multiclass",
        "split": {"branch": "part", "values": {"train": 0, "validation": 1, "test": 2}},
    })  # fmt: skip
    dataset = Dataset.prepare(config)
    with pytest.raises(ConfigError, match=rf"test events of {said} in label.*above 2: .*<= 2"):
        refuse(config, dataset.layout, dataset.specs)


def test_one_bad_branch_costs_itself_only() -> None:
    schema = scan_file(0, str(LEAVES), "Events").schema
    assert {name: branch.kind for name, branch in schema.items() if branch.readable} == {
        "x": "flat", "label": "flat",
    }  # fmt: skip
    config = {"samples": [{"files": str(LEAVES), "label": "label"}], "task": "binary"}
    dataset = Dataset.prepare(DatasetConfig.model_validate(config))
    assert {name: dataset.layout.excluded[name] for name in ("ab", "late", "never")} == {
        "ab": "a[2]:b[2] (not read)",
        "late": "float, it was filled in 48 of 98 entries (not read)",
        "never": "float, it was filled in 0 of 98 entries (not read)",
    }
    (batch,) = delivered(dataset)
    assert len(batch["x"]) == 98
    with pytest.raises(BranchError) as caught:
        Dataset.prepare(DatasetConfig.model_validate({**config, "features": ["x", "never", "ab"]}))
    assert "filled in 0 of 98 entries" in str(caught.value)
    assert "its type is a[2]:b[2]" in str(caught.value)


def test_inspect_shows_a_file_of_which_a_branch_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"good": "var * float32", "bad": "var * float32"})
        lists = ak.Array([[1.0], [2.0, 3.0]])
        file["Events"].extend({"good": lists, "bad": lists})
    with uproot.open(path) as file:
        cursor = file["Events"]["bad"].member("fBasketSeek")[0]
    content = bytearray(path.read_bytes())
    content[cursor + 6 : cursor + 10] = b"\xff" * 4  # the size of the basket's content
    path.write_bytes(bytes(content))
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr()
    assert "branch bad" in printed.err
    assert "good" in printed.out
    assert "1.5, 2, 2" in printed.out


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a[10]", ["a[10]"]), ("a*", ["a[10]", "a1", "a0"]), ("*[10]", ["a[10]", "b[10]"]),
        ("a[1]", ["a1"]), ("b?10?", ["b[10]"]), ("a*b", ["a*b"]), ("c", []),
    ],
)  # fmt: skip
def test_a_name_that_exists_is_that_name(pattern: str, found: list[str]) -> None:
    names = ["a[10]", "b[10]", "a1", "a0", *(["a*b"] if pattern == "a*b" else [])]
    assert matching(pattern, names) == found


def test_label_and_weight_may_be_expressions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", 0)
    sample = {"files": str(path), "label": "count(Jet_pt) > 1", "weight": "x ** 2 * 1e-1"}
    dataset = Dataset.prepare(DatasetConfig.model_validate({"samples": [sample]}))
    assert dataset.layout.task == "binary"
    why = "the label or the weight is computed from it"
    assert [dataset.layout.excluded[name] for name in ("Jet_pt", "x")] == [why, why]
    (batch,) = delivered(dataset)
    with uproot.open(path) as file:
        arrays = file["Events"].arrays(["Jet_pt", "x"])
    np.testing.assert_array_equal(batch["label"], ak.num(arrays.Jet_pt) > 1)
    np.testing.assert_allclose(batch["weight"], ak.to_numpy(arrays.x).astype(float) ** 2 * 0.1)


def test_fit_predict_export_of_two_files_without_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("hepdata_serving")
    monkeypatch.chdir(tmp_path)
    background, signal = write(Path("b.root"), 0), write(Path("s.root"), 2)
    assert main(["fit", str(background), f"{signal}:Events", "--set", "training.epochs=1"]) == 0
    assert "class 1: s.root:Events" in capsys.readouterr().err
    run = Path("runs/model")
    ledger = json.loads((run / "ledger.json").read_text())["evaluation"]
    assert ledger["values filled (NaN or infinity)"] == {"Jet_pt": 2, "rare": 12}
    assert ledger["branches excluded"] == {"Tau_pt": 1, "nothing": 1}
    assert main(["predict", str(run), str(signal), "-o", "scores.root"]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    assert (run / "torchserve").is_dir()


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_delivered_with_default_features(shared_data: Path, name: str) -> None:
    samples = [
        {"files": f"{shared_data / name}.root:{tree}", "label": label} for tree, label in REAL[name]
    ]
    task = "regression" if name == "tmva_reg_example" else None
    dataset = Dataset.prepare(DatasetConfig.model_validate({"samples": samples, "task": task}))
    assert describe(dataset)
    batches = delivered(dataset)
    assert sum(len(batch["x"]) for batch in batches) == dataset.manifest.entries
    assert all(np.isfinite(batch["x"]).all() for batch in batches)
