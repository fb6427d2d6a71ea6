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
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.config.plain_yaml import read_yaml
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import Pass
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.weaver import PLACEHOLDER, Conversion, convert
from hepdata_adapters.common.weaver.syntax import UntranslatableError
from hepdata_adapters.common.weaver.translation import translate

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "weaver.md").read_text()
LENGTH = 6
CONFIG = """
treename: tree
selection:
   ### a comment, as weaver's own configs have them
   (jet_pt > 200) & (np.abs(jet_eta) < 2) & ~(ak.num(part_px) < 2)
new_variables:
   part_mask: ak.ones_like(part_energy)
   part_pt: np.hypot(part_px, part_py)
   part_pt_log: np.log(part_pt)
   part_e_log: np.log(part_energy)
   part_logptrel: np.log(part_pt/jet_pt)
   part_logerel: np.log(part_energy/jet_energy)
   part_deltaR: np.hypot(part_deta, part_dphi)
   part_isElectron: ak.values_astype(np.abs(part_pid) == 11, 'float32')
   part_d0: np.tanh(part_d0val)
   part_abseta: np.abs(part_deta + jet_eta)
preprocess:
   method: manual
   data_fraction:
inputs:
   pf_points:
      length: 6
      pad_mode: constant
      vars:
         - [part_deta, null]
         - [part_dphi, null]
   pf_features:
      length: 6
      pad_mode: constant
      vars:
         - [part_pt_log, 1.7, 0.7]
         - [part_e_log, 2.0, 0.7, -1, 1.5]
         - [part_logptrel, -4.7, 0.7]
         - [part_logerel, -4.7, 0.7]
         - [part_deltaR, 0.2, 4.0]
         - [part_abseta, 0.8, -2.0, -1, 3]
         - [part_isElectron, null]
         - part_d0
   pf_vectors:
      length: 6
      pad_mode: constant
      vars: [[part_px, null], [part_py, null], [part_energy, null]]
   pf_mask:
      length: 6
      pad_mode: constant
      vars: [[part_mask, null]]
   jets:
      length: 1
      vars: [[jet_pt, 500, 0.01, -2, 2], [jet_eta, null]]
labels:
   type: simple
   value: [label_QCD, label_Hbb, label_Tbqq]
observers: [jet_energy]
weights:
"""


def jets(path: Path, size: int = 300) -> ak.Array:
    """A file of jets with particles, as those of JetClass; also the arrays in it."""
    random = np.random.default_rng(7)
    counts = random.integers(0, 10, size)
    total = int(counts.sum())
    truth = random.integers(0, 3, size)
    flat = {
        "jet_pt": random.uniform(100, 1000, size).astype(np.float32),
        "jet_eta": random.normal(0, 1, size).astype(np.float32),
        "jet_energy": random.uniform(500, 2000, size).astype(np.float32),
        "genweight": random.uniform(0.5, 1.5, size).astype(np.float32),
        "label_QCD": (truth == 0).astype(np.int32),
        "label_Hbb": truth == 1,
        "label_Tbqq": (truth == 2).astype(np.float32),
    }
    each = {f"part_{name}": random.normal(0, 20, total) for name in ("px", "py")} | {
        "part_energy": random.exponential(50, total),
        "part_deta": random.normal(0, 0.4, total),
        "part_dphi": random.normal(0, 0.4, total),
        "part_d0val": np.where(random.random(total) < 0.1, np.nan, random.normal(0, 2, total)),
    }
    lists = {name: ak.unflatten(v.astype(np.float32), counts) for name, v in each.items()}
    pid = random.choice([11, -11, 22, 211, -211], total).astype(np.int32)
    arrays = flat | lists | {"part_pid": ak.unflatten(pid, counts)}
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(ak.Array(a)).content for name, a in arrays.items()})
        file["tree"].extend(arrays)
    return ak.Array(arrays)


def batch_of(conversion: Conversion) -> dict[str, Any]:
    """All selected events in the order of the file."""
    dataset = Dataset.prepare(RunConfig.model_validate(conversion.document))
    with EventStream(dataset, None) as stream:
        return next(Pass(10_000, shuffle=False, seed=0).batches(stream, None))


def standardised(values: Any, center: float, scale: float, low: float = -5, high: float = 5) -> Any:
    """weaver's definition: subtract, multiply, clip, and 0 for NaN."""
    scaled = (ak.values_astype(values, np.float64) - center) * scale
    return ak.nan_to_num(clipped(scaled, low, high), nan=0)


def clipped(values: Any, low: float, high: float) -> Any:
    """``np.clip``, which takes no jagged arrays."""
    return ak.where(values < low, low, ak.where(values > high, high, values))


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


# expressions: Python itself, with numpy and awkward, says what they mean

COUNTS = [3, 0, 2, 1]
NUMBERS = {
    "pt": [50.0, 20.0, 5.0, 70.0, 40.0, 10.0],
    "eta": [-1.0, 0.5, 2.0, math.nan, 3.0, 0.0],
    "pid": [11, -13, 22, 11, 211, -211],
}
LISTS = {name: ak.unflatten(np.array(values), COUNTS) for name, values in NUMBERS.items()}
FLAT = {"met": np.array([10.0, 30.0, -5.0, 0.0]), "n": np.array([3, 0, 2, 1]),
        "good": np.array([True, False, True, True])}  # fmt: skip
OFFSETS = np.concatenate([[0], np.cumsum(COUNTS)]).astype(np.int64)
COLUMNS = {n: Jagged(np.array(v), OFFSETS) for n, v in NUMBERS.items()} | FLAT


def check_meaning(text: str, logical: frozenset[str] = frozenset({"good"})) -> None:
    with np.errstate(all="ignore"):
        wanted = eval(text, {"np": np, "ak": ak, "math": math, "_clip": clipped, **LISTS, **FLAT})
    translated = translate(text, logical)
    got = parse(translated.text, COLUMNS)(COLUMNS)
    if isinstance(got, Jagged):
        assert ak.num(wanted).to_list() == got.lengths.tolist(), translated.text
        wanted, got = ak.flatten(wanted), got.content
    wanted = np.asarray(ak.to_numpy(ak.fill_none(wanted, np.nan)), np.float64)
    np.testing.assert_allclose(np.asarray(got, np.float64), wanted, rtol=1e-12, err_msg=text)


@pytest.mark.parametrize("text", [
    "met > 5", "(met > 5) & (n < 3)", "~(met > 5) | (n == 2)", "(met > 5) ^ (n == 2)",
    "met > 5 + n * 2", "np.logical_and(met > 5, np.logical_not(n == 3))", "good & (met > 0)",
    "~good", "ak.sum(pt, axis=1) > 60", "ak.sum(pt, 1)", "np.sum(pt > 15, axis=-1)",
    "ak.num(pt)", "ak.num(pt, axis=1) >= 2", "ak.count(pt, axis=1)",
    "ak.count_nonzero(pt > 15, axis=1)", "ak.any(pt > 60, axis=1)", "ak.all(pt > 15, axis=1)",
    "ak.max(pt, axis=1)", "ak.min(pt, axis=-1)", "ak.mean(pt, axis=1)",
    "ak.fill_none(ak.max(pt, axis=1), -1)", "ak.fill_none(ak.firsts(pt), -1.5)", "ak.firsts(pt)",
    "np.log(pt / (met + 100))", "np.hypot(pt, eta)", "np.arctan2(eta, pt)", "np.arcsinh(eta)",
    "np.sqrt(pt) ** 2 % 7", "-met // 4", "ak.where(np.abs(pid) == 11, pt, -1)",
    "np.where(good, met, 0.5)", "np.minimum(pt, met)", "np.maximum(eta, 0)",
    "_clip(eta, -0.5, 1)", "np.clip(met, -2, n)", "np.isnan(eta)", "np.isinf(1 / met)",
    "np.square(eta)",
    "ak.ones_like(pt)", "ak.zeros_like(eta) + met", "ak.full_like(pt, 3)", "ak.nan_to_num(eta)",
    "ak.values_astype(np.abs(pid) == 11, 'float32')", "ak.values_astype(pt * 1.37, np.int32)",
    "ak.values_astype(met * 1.37, 'int64')", "ak.values_astype(met, 'bool')",
    "pt[pt > 15]", "ak.sum(pt[(pt > 15) & (eta < 1)], axis=1)", "(pid == 11) + (pid == 22)",
    "(pid == 11) * (pt > 60)", "(pid == 11) * 2 + (pid == 22)", "met * math.pi + np.e",
    "np.power(met, 2) - np.add(met, 1)", "np.rint(met / 4)", "np.sign(met) * np.tanh(met)",
    "10 ** -np.abs(met / 10)", "1e-3 * met + 1e5",
])  # fmt: skip
def test_expressions_mean_the_same(text: str) -> None:
    check_meaning(text)


def test_an_object_by_its_place() -> None:
    lists = {"pt": Jagged.from_lists([[5.0, 3.0], [4.0]])}
    assert parse(translate("pt[:, 0]").text, lists)(lists).tolist() == [5, 4]
    assert parse(translate("pt[:, -1]").text, lists)(lists).tolist() == [3, 4]


NUMBER = st.recursive(
    st.sampled_from(["met", "n", "pt", "eta", "pid", "(met + 2)", "ak.sum(pt, axis=1)"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(inner, inner).map(lambda p: f"np.hypot({p[0]}, {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"ak.where({p[0]} > 1, {p[1]}, {p[0]})"),
        st.tuples(inner, inner).map(lambda p: f"-{p[0]} + {p[1]}"),
        inner.map(lambda p: f"_clip({p}, -3, 40)"),
    ),
    max_leaves=8,
)
CONDITION = st.recursive(
    st.tuples(NUMBER, st.sampled_from(["<", ">=", "=="]), NUMBER).map(lambda p: f"({' '.join(p)})"),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("&|^+*"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        inner.map(lambda p: f"~{p}"),
    ),
    max_leaves=4,
)


@given(st.one_of(NUMBER, CONDITION))
def test_any_expression_means_the_same(text: str) -> None:
    check_meaning(f"({text}) + 0 * (met + pt)")  # a value for each object


@pytest.mark.parametrize(("text", "reason"), [
    ("__import__('os').system('ls')", "only of functions of np, ak and math"),
    ("().__class__.__bases__[0]", "no equivalent"),
    ("open('/etc/passwd')", "only of functions"),
    ("np.load('x.npy', allow_pickle=True)", "load(…) with allow_pickle=… has no equivalent"),
    ("np.fromfile(pt)", "fromfile(…) has no equivalent"),
    ("(lambda: 0)()", "only of functions"),
    ("[x for x in pt]", "no equivalent"),
    ("pt if met > 1 else eta", "no equivalent"),
    ("flags & 4", "4 is a number: operations on its bits"),
    ("(flags >> 2) > 0", "bits"),
    ("ak.sum(pt)", "with axis none is not over the objects of each event"),
    ("ak.sum(pt, axis=0)", "axis 0"),
    ("ak.max(pt, axis=1, keepdims=True)", "these arguments"),
    ("pt[:, :3]", "…[(:, :3)] has no equivalent"),
    ("pt[0]", "…[0] has no equivalent"),
    ("pt[ak.argsort(eta)]", "argsort(…) has no equivalent"),
    ("part_p4.pt", "four-vectors"),
    ("_p4_from_pxpypze(px, py, pz, e)", "four-vectors"),
    ("ak.fill_none(pt, 0)", "only of firsts, min and max"),
    ("ak.fill_none(ak.firsts(pt), met)", "replaced by a number"),
    ("np.sqrt(pt, eta)", "with 2 argument(s)"),
    ("np.where(pt > 1)", "takes 3 argument(s)"),
    ("np.hypot(*pt)", "no equivalent"),
    ("np", "no equivalent"),
    ("'text'", "no equivalent"),
    ("1e999 * pt", "no equivalent"),
    ("pt +", "no expression in Python"),
    ("", "no expression in Python"),
    ("(" * 3000 + "pt" + ")" * 900, "no expression in Python"),
    ("-" * 3990 + "pt", "no expression in Python"),
    ("pt" + " + 1" * 500, "deep"),
    ("pt + 1" * 1000, "at most 4000"),
    (f"{2**70} * pt", "does not fit 64 bits"),
    ("9**9**9**9 + flags.x", "four-vectors"),
    ("np.isinf(" * 40 + "pt" + ")" * 40, "longer than 4000 characters"),
])  # fmt: skip
def test_what_cannot_be_translated_says_why(text: str, reason: str) -> None:
    with pytest.raises(UntranslatableError, match=re.escape(reason)):
        translate(text)


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


# the command


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jets(tmp_path / "jets_1.root")
    source, out = tmp_path / "weaver.yaml", tmp_path / "made" / "config.yaml"
    source.write_text(CONFIG)
    out.parent.mkdir()
    files = ["--files", f"jets={tmp_path}/jets_*.root"]
    assert main(["convert", str(source), *files, "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "observers.jet_energy (left out)" in said.err
    assert "# observers.jet_energy (left out)" in out.read_text()
    assert main(["validate", str(out)]) == 0
    assert "valid" in capsys.readouterr().out
    assert main(["convert", str(source), *files]) == 0
    assert capsys.readouterr().out == out.read_text()


def test_relative_files_are_seen_from_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    Path("weaver.yaml").write_text(CONFIG)
    words = ["--files", "a=data/a_*.root", "--files", "a=root://b//c.root", "--files", "b=d.root"]
    assert main(["convert", "weaver.yaml", *words, "-o", "made/config.yaml"]) == 0
    samples = yaml.safe_load(Path("made/config.yaml").read_text())["samples"]
    assert [sample["files"] for sample in samples] == [
        ["../data/a_*.root", "root://b//c.root"], ["../d.root"],
    ]  # fmt: skip
    (loaded, _) = load_config("made/config.yaml").samples
    assert Path(loaded.files[0]).resolve() == tmp_path / "data" / "a_*.root"


def test_without_files_validation_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "weaver.yaml", tmp_path / "config.yaml"
    source.write_text(CONFIG)
    assert main(["convert", str(source), "-o", str(out)]) == 0
    assert main(["validate", str(out)]) != 0
    assert PLACEHOLDER in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("text", "reason"), [
    ("a: &x [1]\nb: *x", "aliases are not supported"),
    ("a: !!python/object/apply:os.system ['ls']", "not readable as YAML"),
    ("#" * 1_000_001, "larger than 1,000,000 bytes"),
    ("[1, 2]", "no mapping"),
    ("[" * 5000, "nested more than 50 deep"),
])  # fmt: skip
def test_files_that_are_no_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    source = tmp_path / "weaver.yaml"
    source.write_text(text)
    assert main(["convert", str(source)]) == 2
    assert reason in capsys.readouterr().err


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "weaver.yaml"
    assert main(["convert", str(source)]) == 2
    assert "weaver.yaml" in capsys.readouterr().err
    source.write_text(CONFIG)
    assert main(["convert", str(source), "--files", "jets.root"]) == 2
    assert "write NAME=GLOB" in capsys.readouterr().err
    assert main(["convert", str(source), "-o", str(source / "out.yaml")]) == 1
    assert "a file is in the place of a folder" in capsys.readouterr().err


def test_a_name_cannot_leave_the_comments() -> None:
    conversion = converted(observers=["a\nsamples: []\u2028b: \x1b[2J"])
    text = conversion.yaml("x\ny: 1")
    assert read_yaml(text) == conversion.document


@pytest.mark.parametrize("code", re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL))
def test_python_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    jets(tmp_path / "jets.root")
    (config,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    Path("weaver.yaml").write_text(config)
    (command,) = re.findall(r"^\$ hepdata-adapters (.+)$", PAGE, re.MULTILINE)
    assert main(command.split()) == 0
    exec(compile(code, "docs/weaver.md", "exec"), {"__name__": "docs"})
