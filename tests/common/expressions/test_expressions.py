"""Expressions over branches against awkward, and the attacks they must refuse."""

from __future__ import annotations

import doctest
import itertools
import re
from contextlib import suppress
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.expressions.functions import (
    FUNCTIONS,
    INVARIANT_MASS,
    REDUCTIONS,
    folded,
)

EVENTS = st.lists(
    st.lists(st.tuples(st.floats(-50, 50), st.floats(-5, 5)), max_size=5), min_size=1, max_size=12
)


def columns_of(events: list[list[tuple[float, float]]]):
    n = len(events)
    return {
        "Jet_pt": Jagged.from_lists([[pt for pt, _ in event] for event in events]),
        "Jet_eta": Jagged.from_lists([[eta for _, eta in event] for event in events]),
        "MET": np.linspace(-20, 60, n),
        "n": np.arange(n, dtype=np.int64) + 2**53,
        "vertex": np.arange(3.0 * n).reshape(n, 3),
        "Muon.pt": np.arange(n),
    }


def evaluated(text: str, columns):
    return parse(text, set(columns))(columns)


CASES = {
    "MET > 10 & MET < 40": lambda c: (c["MET"] > 10) & (c["MET"] < 40),
    "MET > 10 && !(MET < 40)": lambda c: (c["MET"] > 10) & ~(c["MET"] < 40),
    "10 < MET <= 40 or MET < 0": lambda c: ((c["MET"] > 10) & (c["MET"] <= 40)) | (c["MET"] < 0),
    "sum(Jet_pt) > 20": lambda c: ak.sum(c["Jet_pt"], axis=1) > 20,
    "count(Jet_pt > 10 & abs(Jet_eta) < 2.4) >= 2": lambda c: (
        ak.sum((c["Jet_pt"] > 10) & (abs(c["Jet_eta"]) < 2.4), axis=1) >= 2
    ),
    "any(Jet_pt > 30)": lambda c: ak.any(c["Jet_pt"] > 30, axis=1),
    "all(Jet_pt > 0)": lambda c: ak.all(c["Jet_pt"] > 0, axis=1),
    "max(Jet_pt) > 20": lambda c: ak.fill_none(ak.max(c["Jet_pt"], axis=1) > 20, False),
    "min(Jet_pt) < 0": lambda c: ak.fill_none(ak.min(c["Jet_pt"], axis=1) < 0, False),
    "Jet_pt[1] > 5": lambda c: ak.fill_none(ak.pad_none(c["Jet_pt"], 2)[:, 1] > 5, False),
    "sum(TMath::Abs(Jet_pt)) - MET > 3": lambda c: ak.sum(abs(c["Jet_pt"]), axis=1) - c["MET"] > 3,
    "any(Jet_pt > MET)": lambda c: ak.any(c["Jet_pt"] > c["MET"], axis=1),
    "n != 9007199254740993": lambda c: c["n"] != 2**53 + 1,
    "n % 2 == 0": lambda c: c["n"] % 2 == 0,
    "vertex[2] > 7 | sum(vertex) < 5": lambda c: (
        (c["vertex"][:, 2] > 7) | (ak.sum(c["vertex"], axis=1) < 5)
    ),
    "max(MET, 5) == 5": lambda c: np.maximum(c["MET"], 5) == 5,
    "Muon.pt >= 3": lambda c: c["Muon.pt"] >= 3,
    "MET ** 2 < 100": lambda c: c["MET"] ** 2 < 100,
    "-MET > 3": lambda c: -c["MET"] > 3,
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
@settings(deadline=None, max_examples=30)
@given(events=EVENTS)
def test_selections_are_what_awkward_computes(text, events):
    columns = columns_of(events)
    arrays = {
        name: ak.Array(c.to_lists()) * 1.0 if isinstance(c, Jagged) else c
        for name, c in columns.items()
    }
    for name in ("Jet_pt", "Jet_eta"):
        arrays[name] = ak.values_astype(ak.from_iter(columns[name].to_lists()), np.float64)
        if ak.count(arrays[name]) == 0:
            return  # awkward knows no type for lists that are all empty
    found = parse(text, set(columns)).selects(columns)
    assert found.tolist() == ak.to_list(CASES[text](arrays))


def test_events_without_objects():
    columns = {"pt": Jagged.from_lists([[], [1.0], []])}
    assert evaluated("sum(pt)", columns).tolist() == [0, 1, 0]
    assert evaluated("count(pt > 0)", columns).tolist() == [0, 1, 0]
    assert np.isnan(evaluated("max(pt)", columns)[[0, 2]]).all()
    assert evaluated("all(pt > 5)", columns).tolist() == [True, False, True]
    empty = {"pt": Jagged.from_lists([])}
    assert len(evaluated("sum(pt)", empty)) == 0


def test_nan_fails_every_cut():
    columns = {"x": np.array([np.nan, 1.0])}
    for text in ("x > 0", "x < 5", "x == x"):
        assert parse(text, {"x"}).selects(columns).tolist() == [False, True]
    assert parse("x", {"x"}).selects(columns).tolist() == [False, True]


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__.__mro__",
        "MET.__class__",
        "open('a')",
        "lambda: 1",
        "[x for x in MET]",
        "f'{MET}'",
        "'a' * 10",
        "MET := 3",
        "exec('1')",
        "MET; n",
        "MET = 3",
        "{1: 2}",
        "MET[True]",
        "MET[1.5]",
        "MET[0, 1]",
        "MET['a']",
        "1if MET else 2",
        "n ? MET",
        "n ? (MET : 1)",
        "(MET ? 1 : 2",
        "where(MET, 1)",
        "deltaR(MET, n)",
        "any",
        "MET(n)",
        "getattr(MET, n)",
        "b'a'",
        "yield",
        "await MET",
        "MET[0:1]",
        "MET @ n",
        "MET << 99999999",
        "abs(x=MET)",
        "abs(*MET)",
        "Jet_pt.sum()",
        "1j * MET",
        "...",
        "None",
        "",
        "   ",
        "(",
        "MET >",
        "99999999999999999999 * MET",
        "abs",
        "abs(MET, n)",
        "min(MET, n, n)",
        "MET is n",
        "MET in n",
    ],
)
def test_what_is_not_an_expression_over_branches_is_refused(text):
    with pytest.raises(ConfigError):
        parse(text, {"MET", "n", "Jet_pt"})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 500 + "MET" + ")" * 500,
        "(" * 10**4 + "MET" + ")" * 10**4,
        "-" * 3000 + "MET",
        "MET" + "+MET" * 900,
        "9" * 10**8,
        "9" * 3999,
        "MET+" * 250_000 + "MET",
        "MET?" * 900,
        "abs(" * 900 + "MET" + ")" * 900,
        "MET?(" * 700 + "MET",
        "9" * 19 + "*MET",
        "(MET ? " * 450 + "1" + " : 2)" * 450,
        "MET" + "[0]" * 100,
        "MET" + ".a" * 1900,
    ],
)
def test_huge_expressions_are_refused(text):
    with pytest.raises(ConfigError, match=r"nested|cannot be read|characters|64 bits|no branch"):
        parse(text, {"MET"})


def test_huge_powers_are_infinite_at_once():
    assert np.isinf(evaluated("MET + 9 ** 9 ** 9 ** 9", {"MET": np.ones(2)})).all()


def test_errors_name_what_is_near():
    with pytest.raises(ConfigError, match="no branch 'Jet_pT'; did you mean 'Jet_pt'"):
        parse("Jet_pT > 3", {"Jet_pt", "MET"})
    with pytest.raises(ConfigError, match="no function 'arctan2'; did you mean 'atan2'"):
        parse("arctan2(MET, MET)", {"MET"})


def test_a_cut_on_objects_is_no_selection_of_events():
    columns = columns_of([[(1.0, 2.0)], []])
    with pytest.raises(ConfigError, match=r"a value for each object.*any\(…\)"):
        parse("Jet_pt > 3", set(columns)).selects(columns)
    with pytest.raises(ConfigError, match="same for all events"):
        parse("1 > 0", set(columns)).selects(columns)


def test_jagged_branches_of_different_lengths_do_not_mix():
    columns = {
        "a": Jagged.from_lists([[1.0], [1.0], []]),
        "b": Jagged.from_lists([[2.0], [1.0, 2.0], []]),
    }
    for text in ("a + b", "a[b > 0]", "a[a > 5] + b"):
        with pytest.raises(InvalidValueError, match=r"'b' has \d values|has \d and|'b' has"):
            evaluated(text, columns)
    with pytest.raises(InvalidValueError, match="'a' has 1 values and 'b' has 2") as fault:
        evaluated("a + b", columns)
    assert fault.value.row == 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sum(pt[pt > 30])", [131.0, 0.0, 90.0]),
        ("pt[pt > 30][1]", [41.0, np.nan, np.nan]),
        ("pt[-1]", [41.0, np.nan, 90.0]),
        ("pt[1]", [90.0, np.nan, np.nan]),
        ("pt[argmax(pt)]", [90.0, np.nan, 90.0]),
        ("argmin(pt)", [0, -1, 0]),
        ("pt[n]", [90.0, np.nan, np.nan]),
        ("mean(pt)", [(25 + 90 + 41) / 3, np.nan, 90.0]),
        ("n > 1 ? n : -n", [-1, 2, 7]),
        ("n > 1 ? n > 2 ? 3 : 2 : 1", [1, 2, 3]),
        ("1 if n > 2 else 0", [0, 0, 1]),
        ("(n > 1) + (n > 2)", [0, 1, 2]),
        ("Sum$(pt > 30) + Length$(pt)", [5, 0, 2]),
        ("TMath::Power(n, 2) * TMath::Pi() / pi()", [1.0, 4.0, 49.0]),
        ("big - 5", [2.0**63 - 5, -5.0, -4.0]),
        ("big % 2 == 1", [False, False, True]),
        ("n / 2", [0.5, 1.0, 3.5]),
        ("n % 0", [0, 0, 0]),
    ],
)
def test_values(text, wanted):
    columns = {
        "pt": Jagged.from_lists([[25.0, 90.0, 41.0], [], [90.0]], np.float32),
        "n": np.array([1, 2, 7], np.int32),
        "big": np.array([2**63, 0, 1], np.uint64),
    }
    found = evaluated(text, columns)
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == np.asarray(wanted).dtype


def test_comparisons_of_a_chain_are_computed_once():
    text = "MET"
    for _ in range(50):
        text = f"0 < ({text}) < 5"
    assert evaluated(text, {"MET": np.ones(2)}).tolist() == [True, True]


def particles(seed: int, n: int = 200):
    rng = np.random.default_rng(seed)
    return {
        "pt": rng.exponential(50, n) + 1, "eta": rng.normal(0, 2, n),
        "phi": rng.uniform(-np.pi, np.pi, n), "m": rng.exponential(5, n),
    }  # fmt: skip


def test_kinematics_are_those_of_the_vector_library():
    a, b = particles(1), particles(2)
    columns = {f"{k}1": v for k, v in a.items()} | {f"{k}2": v for k, v in b.items()}
    one, two = (
        vector.array({"pt": p["pt"], "eta": p["eta"], "phi": p["phi"], "mass": p["m"]})
        for p in (a, b)
    )
    cartesian = {name: getattr(one, name) for name in ("px", "py", "pz", "energy")}
    columns |= cartesian
    wanted = {
        "px(pt1, phi1)": one.px, "py(pt1, phi1)": one.py, "pz(pt1, eta1)": one.pz,
        "energy(pt1, eta1, phi1, m1)": one.energy, "pt(px, py)": one.pt, "phi(px, py)": one.phi,
        "eta(px, py, pz)": one.eta, "rapidity(pt1, eta1, phi1, m1)": one.rapidity,
        "mass(px, py, pz, energy + 1)": vector.array(cartesian | {"energy": one.energy + 1}).mass,
        "mass(px, py, pz, energy / 9)": vector.array(cartesian | {"energy": one.energy / 9}).mass,
        "deltaphi(phi1, phi2)": one.deltaphi(two),
        "DeltaR(eta1, eta2, phi1, phi2)": one.deltaR(two),
        "deltaeta(eta1, eta2)": one.deltaeta(two),
        "invariant_masses(pt1, eta1, phi1, m1, pt2, eta2, phi2, m2)": (one + two).mass,
    }  # fmt: skip
    for text, values in wanted.items():
        np.testing.assert_allclose(evaluated(text, columns), values, rtol=1e-9, err_msg=text)


def test_the_invariant_mass_is_that_of_all_objects_of_an_event():
    made = particles(3)
    offsets = np.array([0, 0, 1, 50, 200])
    columns = {name: Jagged(values, offsets) for name, values in made.items()}
    all_of = vector.array(
        {"pt": made["pt"], "eta": made["eta"], "phi": made["phi"], "mass": made["m"]}
    )
    wanted = [all_of[start:stop].sum().mass for start, stop in itertools.pairwise(offsets)]
    for name in ("invariant_mass", "InvariantMass"):
        found = evaluated(f"{name}(pt, eta, phi, m)", columns)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_deltaphi_stays_below_pi():
    columns = {"a": np.array([np.pi, -np.pi, 1.0, 0.0, -np.pi - 1e-16]), "b": np.zeros(5)}
    found = evaluated("deltaphi(a, b)", columns)
    assert ((found >= -np.pi) & (found < np.pi)).all()


DOCS = (Path(__file__).resolve().parents[3] / "docs" / "expressions.md").read_text()


def test_the_examples_of_the_docs_are_what_they_say():
    found = doctest.DocTestParser().get_doctest(
        "\n".join(re.findall(r"```pycon\n(.+?)```", DOCS, re.DOTALL)), {}, "expressions.md", None, 0
    )
    assert found.examples
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found).failed == 0


def test_the_docs_name_every_function():
    named = {folded(name) for name in re.findall(r"`(\w+)\(", DOCS)}
    assert {*FUNCTIONS, *REDUCTIONS, INVARIANT_MASS, "pi"} <= named


def test_the_cuts_of_the_docs_can_be_read():
    (branches,) = re.findall(r"^Branches of the examples: (.+)\.$", DOCS, re.MULTILINE)
    known = set(re.findall(r"`(.+?)`", branches))
    (cuts,) = re.findall(r"```text\n(.+?)```", DOCS, re.DOTALL)
    for line in cuts.splitlines():
        assert parse(line.split("#")[0].strip(), known).names


@given(st.text(max_size=60))
def test_any_text_gives_an_expression_or_a_config_error(text):
    with suppress(ConfigError):
        parse(text, {"MET", "n"})
