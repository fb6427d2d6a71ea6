"""weaver's data configs: what they say comes out as the same numbers, the rest is listed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.config.plain_yaml import read_yaml
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.weaver import Conversion, convert
from tests.helpers.weaver_files import CONFIG, clipped, jets

LENGTH = 6


def batch_of(conversion: Conversion) -> dict[str, Any]:
    """All selected events in the order of the file."""
    dataset = Dataset.prepare(RunConfig.model_validate(conversion.document))
    with EventStream(dataset, None) as stream:
        return next(EpochOptions(10_000, shuffle=False, seed=0).epoch().batches(stream, None))


def standardised(values: Any, center: float, scale: float, low: float = -5, high: float = 5) -> Any:
    """weaver's definition: subtract, multiply, clip, and 0 for NaN."""
    scaled = (ak.values_astype(values, np.float64) - center) * scale
    return ak.nan_to_num(clipped(scaled, low, high), nan=0)


def padded(*columns: Any) -> Any:
    """``(n, LENGTH, columns)``, 0 where there is nothing."""
    filled = [
        ak.to_numpy(ak.fill_none(ak.pad_none(ak.nan_to_num(c, nan=0), LENGTH, clip=True), 0))
        for c in columns
    ]
    return np.stack(filled, axis=2)


def test_the_numbers_are_those_of_weavers_definition(tmp_path: Path) -> None:
    events = jets(tmp_path / "jets.root")
    conversion = convert(read_yaml(CONFIG), {"jets": [str(tmp_path / "jets.root")]})
    batch = batch_of(conversion)

    chosen = (events.jet_pt > 200) & (np.abs(events.jet_eta) < 2) & (ak.num(events.part_px) >= 2)
    e = ak.values_astype(events[chosen], np.float64)
    assert 50 < len(e) < len(events)
    pt = np.hypot(e.part_px, e.part_py)
    wanted = padded(
        standardised(np.log(pt), 1.7, 0.7),
        standardised(np.log(e.part_energy), 2, 0.7, -1, 1.5),
        standardised(np.log(pt / e.jet_pt), -4.7, 0.7),
        standardised(np.log(e.part_energy / e.jet_energy), -4.7, 0.7),
        standardised(np.hypot(e.part_deta, e.part_dphi), 0.2, 4),
        standardised(abs(e.part_deta + e.jet_eta), 0.8, -2, -1, 3),
        abs(events[chosen].part_pid) == 11,
        np.tanh(e.part_d0val),
    )
    assert np.isnan(ak.to_numpy(ak.flatten(e.part_d0val))).any()
    assert (wanted[..., 1] == 1.5).any()  # clips happen
    assert (wanted[..., 5] == -1).any()
    np.testing.assert_allclose(batch["pf_features"], wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(batch["pf_points"], padded(e.part_deta, e.part_dphi), rtol=1e-7)
    vectors = padded(e.part_px, e.part_py, e.part_energy)
    np.testing.assert_allclose(batch["pf_vectors"], vectors, rtol=1e-7)
    mask = padded(ak.ones_like(e.part_px))[..., 0] == 1
    for name in ("pf_points", "pf_features", "pf_vectors"):
        np.testing.assert_array_equal(batch[f"{name}_mask"], mask)
    wanted_x = np.stack([standardised(e.jet_pt, 500, 0.01, -2, 2), e.jet_eta], axis=1)
    np.testing.assert_allclose(batch["x"], wanted_x, rtol=1e-6, atol=1e-6)
    truth = ak.to_numpy(e.label_Hbb * 1 + e.label_Tbqq * 2)
    np.testing.assert_array_equal(batch["label"], truth)


def test_automatic_standardisation_is_robust_scaling(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    events = jets(path)
    document = {
        "preprocess": {"method": "auto", "data_fraction": 0.5},
        "inputs": {
            "pf": {"length": LENGTH, "vars": ["part_px", ["part_py", None], ["part_deta", 0, 2]]}
        },
    }  # fmt: skip
    conversion = convert(document, {"jets": [str(path)]})
    assert "part_px becomes scaling: robust" in str(find(conversion, "inputs.pf"))
    assert find(conversion, "preprocess.data_fraction").what == "differs"
    (first, second, third) = conversion.document["inputs"]["pf"]["features"]
    assert first == {"branch": "part_px", "scaling": "robust", "missing": "median"}
    assert second == "part_py"
    assert third["clip"] == [-2.5, 2.5]
    got = batch_of(conversion)["pf"]
    np.testing.assert_allclose(got[..., 1], padded(events.part_py)[..., 0], rtol=1e-7)


def test_parameters_that_weaver_wrote_down_are_taken() -> None:
    params = {"length": 4, "pad_mode": "wrap", "center": 3.0, "scale": 0.5, "min": -5, "max": 5,
              "pad_value": 0}  # fmt: skip
    document = {
        "preprocess": {"method": "auto", "params": {"part_px": params}},
        "inputs": {"pf": {"length": 4, "vars": ["part_px"]}},
    }
    (feature,) = convert(document, {}).document["inputs"]["pf"]["features"]
    assert feature == {"branch": "part_px", "scaling": {"center": 3.0, "scale": 2.0},
                       "clip": [-7.0, 13.0], "missing": 3.0}  # fmt: skip


# what has no equivalent


def find(conversion: Conversion, place: str) -> Any:
    (found,) = (note for note in conversion.notes if note.place == place)
    return found


def places(conversion: Conversion, what: str) -> set[str]:
    return {note.place for note in conversion.notes if note.what == what}


def converted(text: str = CONFIG, **changes: Any) -> Conversion:
    return convert({**read_yaml(text), **changes}, {"jets": ["jets.root"]})


def test_nothing_is_left_out_silently() -> None:
    conversion = converted(
        test_time_selection="jet_pt > 100",
        branch_magic={"part_": "pfcand_"},
        file_magic={"is_signal": {"signal": 1}},
        weights={
            "use_precomputed_weights": False, "reweight_method": "flat",
            "reweight_vars": {"jet_pt": [200, 500], "jet_eta": [-2, 2]},
            "reweight_classes": ["label_QCD"], "class_weights": [1], "reweight_hists": None,
        },
    )  # fmt: skip
    assert places(conversion, "left out") == {
        "test_time_selection", "branch_magic", "file_magic", "observers.jet_energy",
        "weights.reweight_method", "weights.reweight_vars", "weights.reweight_classes",
        "weights.class_weights", "weights.reweight_hists", "new_variables.part_mask",
    }  # fmt: skip
    assert "sampling: {balance: over}" in find(conversion, "weights.reweight_vars").reason
    assert "delivered as pf_points_mask, pf_features_mask, pf_vectors_mask" in str(
        find(conversion, "inputs.pf_mask")
    )


def test_a_variable_that_cannot_be_translated_is_missed_everywhere() -> None:
    conversion = converted(
        new_variables={"p4": "_p4_from_pxpypze(px, py, pz, e)", "mass": "p4.mass", "m2": "mass**2",
                       "fine": "np.log(part_pt)"},
        selection="(m2 > 4) & (jet_pt > 3)",
        inputs={"pf": {"length": 3, "vars": ["m2", "fine", ["part_pt", 0, 0], ["x", 1, 1, 3, 2]]},
                "bad": {"length": 3, "vars": ["p4"]}},
    )  # fmt: skip
    document = conversion.document
    assert document["inputs"] == {"pf": {"kind": "set", "length": 3, "features": ["fine"]}}
    assert document["columns"]["fine"] == "log(part_pt)"
    assert "selection" not in document["samples"][0]
    assert "it needs m2, which could not be translated" in find(conversion, "selection").reason
    assert places(conversion, "left out") >= {
        "selection", "inputs.pf.vars.0 (m2)", "inputs.pf.vars.2 (part_pt)", "inputs.pf.vars.3 (x)",
        "inputs.bad", "inputs.bad.vars.0 (p4)", "new_variables.p4", "new_variables.mass",
        "new_variables.m2", "observers.jet_energy",
    }  # fmt: skip


def test_padding_and_names() -> None:
    group = {"length": 3, "pad_mode": "WRAP", "vars": ["part_pt"]}
    conversion = converted(inputs={"mask": group, "pf-a": group, "b_values": group})
    assert list(conversion.document["inputs"]) == ["mask_input", "pf_a", "b_values_input"]
    assert "no equivalent" in find(conversion, "inputs.pf-a.pad_mode").reason
    fives = {"length": 3, "vars": [["part_pt", None, 1, 0, 0, 5]]}
    assert converted(inputs={"a": fives}).document["defaults"]["pad"] == 5
    mixed = converted(inputs={"a": fives, "b": {"length": 3, "vars": ["part_pt"]}})
    assert mixed.document["defaults"]["pad"] == 0
    assert "padded with 0, not with 5" in find(mixed, "inputs.a.vars.0 (part_pt)").reason


def test_the_pad_value_stands_where_nothing_is(tmp_path: Path) -> None:
    jets(tmp_path / "jets.root")
    group = {"length": 3, "vars": [["part_px", 0, 1, -100, 100, -7]]}
    batch = batch_of(convert({"inputs": {"pf": group}}, {"a": [str(tmp_path / "jets.root")]}))
    assert (batch["pf"][~batch["pf_mask"]] == -7).all()
    assert not batch["pf_mask"].all()


def test_a_mask_of_something_else_is_a_set() -> None:
    group = {"length": 3, "vars": ["part_isreal"]}
    made = converted(inputs={"pf": group, "pf_mask": group}).document["inputs"]
    assert list(made) == ["pf", "pf_mask_input"]


@pytest.mark.parametrize(("branches", "weight", "column"), [
    (["genweight"], "genweight", None),
    (["genweight", "jet_pt"], "_weight_", "genweight * jet_pt"),
])  # fmt: skip
def test_precomputed_weights(
    tmp_path: Path, branches: list[str], weight: str, column: str | None
) -> None:
    events = jets(tmp_path / "jets.root")
    weights = {"use_precomputed_weights": True, "weight_branches": branches}
    document = {**read_yaml(CONFIG), "weights": weights, "selection": None}
    conversion = convert(document, {"jets": [str(tmp_path / "jets.root")]})
    assert conversion.document["samples"][0]["weight"] == weight
    assert conversion.document["columns"].get("_weight_") == column
    assert conversion.document["sampling"] == {"resample": True}
    product = math.prod(np.asarray(events[name], np.float64) for name in branches)
    np.testing.assert_allclose(batch_of(conversion)["weight"], product, rtol=1e-6)


def test_many_classes_and_events_of_none(tmp_path: Path) -> None:
    path, size, classes = tmp_path / "many.root", 400, 188
    truth = np.arange(size) % classes
    arrays = {"pt": np.ones(size)} | {f"label_{n}": truth == n for n in range(classes)}
    with uproot.recreate(path) as file:
        file["tree"] = arrays
    names = [f"label_{n}" for n in range(classes)]
    document = {"inputs": {"jet": {"length": None, "vars": ["pt"]}},
                "labels": {"type": "simple", "value": names}}  # fmt: skip
    conversion = convert(document, {"all": [str(path)]})
    np.testing.assert_array_equal(batch_of(conversion)["label"], truth)
    document["labels"]["value"] = names[:-1]
    with pytest.raises(HepDataError, match="class number"):
        batch_of(convert(document, {"all": [str(path)]}))


def test_labels_that_are_expressions() -> None:
    labels = {"type": "simple", "value": ["jet_pt > 500", "jet_pt <= 500"]}
    columns = converted(labels=labels).document["columns"]
    assert columns["_is_class_0_"] == "jet_pt > 500"
    custom = converted(labels={"type": "custom", "value": {"truth": "n - 1", "other": "m"}})
    assert custom.document["columns"]["_label_"] == "n - 1"
    assert custom.document["samples"][0]["label"] == "_label_"
    assert "a sample has one label" in find(custom, "labels.value.other").reason
    lost = converted(labels={"type": "custom", "value": {"truth": "np.argmax(n)"}})
    assert "label" not in lost.document["samples"][0]
    assert "argmax" in find(lost, "labels.value.truth").reason


@pytest.mark.parametrize(("changes", "reason"), [
    ({"selecton": "x"}, "no key 'selecton'; did you mean 'selection'"),
    ({"inputs": {}}, "inputs"),
    ({"inputs": {"pf": {"length": 3, "vars": []}}}, "inputs.pf.vars"),
    ({"inputs": {"pf": {"vars": ["a"]}}}, "inputs.pf.length"),
    ({"inputs": {"pf": {"length": -1, "vars": ["a"]}}}, "inputs.pf.length"),
    ({"inputs": {"pf": {"length": 3, "vars": [["a", "b"]]}}}, "inputs.pf.vars.0.center"),
    ({"inputs": {"pf": {"length": 3, "vars": [["a", math.nan]]}}}, "inputs.pf.vars.0.center"),
    ({"inputs": {"pf": {"length": 3, "vars": [[1] * 9]}}}, "inputs.pf.vars.0"),
    ({"inputs": {"pf": {"length": 3, "pad_mode": "edge", "vars": ["a"]}}}, "inputs.pf.pad_mode"),
    ({"inputs": {"pf": {"length": 3, "vars": ["a b"]}}}, "no name of a branch"),
    ({"new_variables": {"a": 3}}, "new_variables.a"),
    ({"new_variables": {"a": "b", "b": "a + 1"}}, "a circle"),
    ({"labels": {"type": "simple", "value": {"a": "b"}}}, "labels"),
    ({"labels": {"type": "custom", "value": ["a"]}}, "labels"),
    ({"weights": {"use_precomputed_weights": True}}, "weight_branches"),
    ({"preprocess": {"method": "manual", "params": {"a": {"center": "b"}}}}, "preprocess.params.a"),
])  # fmt: skip
def test_errors_name_the_key(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        converted(**changes)


def test_a_name_cannot_leave_the_comments() -> None:
    conversion = converted(observers=["a\nsamples: []\u2028b: \x1b[2J"])
    text = conversion.yaml("x\ny: 1")
    assert read_yaml(text) == conversion.document
