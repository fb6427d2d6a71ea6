"""weaver's expressions: translated, they mean the same, or it is said why they cannot."""

from __future__ import annotations

import math
import re

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.weaver.syntax import UntranslatableError
from hepdata_adapters.common.weaver.translation import translate
from tests.helpers.weaver_files import clipped

# Python itself, with numpy and awkward, says what they mean

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
