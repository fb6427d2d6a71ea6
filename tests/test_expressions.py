"""Expressions over branches against awkward, and the attacks they must refuse."""

from __future__ import annotations

from contextlib import suppress

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.columns import Jagged
from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.expressions import parse

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
        "MET if n else 1",
        "f'{MET}'",
        "'a' * 10",
        "MET := 3",
        "exec('1')",
        "MET; n",
        "MET = 3",
        "{1: 2}",
        "MET[n]",
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
    "text", ["(" * 500 + "MET" + ")" * 500, "-" * 3000 + "MET", "MET" + "+MET" * 900, "9" * 10**8]
)
def test_huge_expressions_are_refused(text):
    with pytest.raises(ConfigError, match=r"nested|cannot be read|characters"):
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
    columns = {"a": Jagged.from_lists([[1.0]]), "b": Jagged.from_lists([[1.0, 2.0]])}
    with pytest.raises(ConfigError, match="joins jagged branches of different lengths"):
        evaluated("a + b", columns)


@given(st.text(max_size=60))
def test_any_text_gives_an_expression_or_a_config_error(text):
    with suppress(ConfigError):
        parse(text, {"MET", "n"})
