"""Specs compared: distances and p-values are those of the values; the commands and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from hepdata_adapters import compute_specs
from hepdata_adapters.cli.specs import specs_app
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.diff import (
    SKETCH_ERROR,
    compare,
    drift_of,
    ks_p_value,
    sketch_distance,
)
from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.specs.sums import summarize
from tests.helpers import specs_files
from tests.helpers.specs_files import FEATURES, FLAT, config_of, small_units

seven = specs_files.seven

JETS = Branch("pt", "jagged", "float64")


# comparing


def stats(values: np.ndarray) -> BranchStatistics:
    return summarize(FLAT, values)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.floats(0, 1), st.sampled_from([300, 5000, 40_000]))
def test_the_distance_of_sketches_is_that_of_the_values(seed, shift, size):
    random = np.random.default_rng(seed)
    one, other = random.normal(size=size), random.normal(shift, 1 + shift, size=size + 77)
    true = scipy.stats.ks_2samp(one, other, method="asymp").statistic
    assert sketch_distance(stats(one).sketch, stats(other).sketch) == pytest.approx(
        true, abs=SKETCH_ERROR + 5 / size
    )


@pytest.mark.parametrize("shares", [(0.3, 0.35), (0.01, 0.5), (0.5, 0.5)])
def test_the_distance_of_whole_numbers_and_flags_is_exact_enough(shares):
    random = np.random.default_rng(1)
    one, other = (random.random(30_000) < share for share in shares)
    flag = Branch("f", "flat", "bool")
    found = sketch_distance(summarize(flag, one).sketch, summarize(flag, other).sketch)
    assert found == pytest.approx(abs(one.mean() - other.mean()), abs=0.01)


@pytest.mark.parametrize("distance", [0.001, 0.01, 0.05, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("n", "m"), [(50, 80), (1000, 1000), (10**6, 10**5)])
def test_p_values_are_those_of_scipy(distance, n, m):
    true = scipy.special.kolmogorov(distance * np.sqrt(n * m / (n + m)))
    assert ks_p_value(distance, n, m) == pytest.approx(true, abs=1e-10)


def test_many_events_of_one_distribution_are_no_drift():
    random = np.random.default_rng(2)
    one, other = stats(random.normal(size=400_000)), stats(random.normal(size=400_000))
    assert drift_of("x", one, other).p_value > 0.01
    moved = drift_of("x", one, stats(random.normal(0.05, 1, size=400_000)))
    assert moved.p_value < 1e-9


def test_drift_is_of_values_lengths_and_missing_values():
    jets = summarize(JETS, Jagged.from_lists([[1.0], [2.0, 3.0]] * 50))
    longer = summarize(JETS, Jagged.from_lists([[1.0, 2.0], [2.0, 3.0, 1.0]] * 50))
    assert drift_of("pt", jets, longer).lengths_distance == 0.5
    assert drift_of("pt", jets, jets).drift == 0.0
    holes = np.where(np.arange(100) < 25, np.nan, np.arange(100.0))
    assert drift_of("x", stats(np.arange(100.0)), stats(holes)).nan_distance == 0.25
    assert drift_of("x", stats(np.arange(9.0)), stats(np.zeros(0))).drift == 1.0


def test_a_comparison_is_sorted_by_drift_and_names_what_only_one_has(seven):
    one = compute_specs(config_of(seven[0], features=["MET", "Jet_pt", "passes"]))
    other = compute_specs(config_of(seven[2], features=["MET", "Jet_pt", "weight"]))
    found = compare(one, other)
    assert [drift.branch for drift in found.drifts] in (["MET", "Jet_pt"], ["Jet_pt", "MET"])
    assert found.drifts[0].drift >= found.drifts[1].drift
    assert (found.only_before, found.only_after) == (("passes",), ("weight",))


# the command line


@pytest.fixture
def call(capsys):
    def run(*words: object) -> tuple[int, str]:
        code = get_command(specs_app).main(list(map(str, words)), "specs", standalone_mode=False)
        return code or 0, capsys.readouterr().out

    return run


@pytest.fixture
def yaml_of(tmp_path):
    def write(name: str, *paths: Path) -> Path:
        config = tmp_path / name
        files = json.dumps(list(map(str, paths)))
        config.write_text(f"samples: [{{files: {files}}}]\nfeatures: {json.dumps(FEATURES)}\n")
        return config

    return write


def test_the_commands(call, yaml_of, seven, tmp_path, monkeypatch):
    small_units(monkeypatch, 40)
    a, b, both, merged, new = (tmp_path / f"{name}.json" for name in ("a", "b", "ab", "m", "n"))
    assert "2 file(s)" in call(yaml_of("a.yaml", seven[0], seven[1]), "-o", a)[1]
    call("compute", yaml_of("b.yaml", seven[2]), "-o", b)
    config = yaml_of("ab.yaml", *seven[:3])
    call("--processes", 2, config, "-o", both)
    assert "3 file(s)" in call("merge", a, b, "-o", merged)[1]
    assert "1 new file(s); 3 file(s)" in call("update", config, "--from", a, "-o", new)[1]
    assert merged.read_bytes() == new.read_bytes() == both.read_bytes()
    with pytest.raises(ConfigError, match="--overwrite"):
        call("merge", a, b, "-o", merged)

    code, table = call("diff", a, b)
    assert code == 0
    assert "p-value" in table
    code, text = call("diff", a, b, "--json", "--fail-above", 0.9)
    document = json.loads(text)
    drifts = [entry["drift"] for entry in document["drifts"]]
    assert (code, drifts) == (0, sorted(drifts, reverse=True))
    assert call("diff", a, b, "--fail-above", 0)[0] == 1
    assert call("diff", a, a, "--fail-above", 0)[0] == 0

    said = call(config, "-o", tmp_path / "part.json", "--fraction", 0.6)[1]
    assert re.search(r"statistics of [\d,]+ training events in \d+ of \d+ units", said)
    assert "±" in said


def test_the_examples_of_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).resolve().parents[3] / "docs" / "specs.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.+?)```", text, re.DOTALL))
    exec(compile(code, "docs/specs.md", "exec"), {"__name__": "docs"})
    for command in re.findall(r"^hepdata-adapters specs (.+)$", text, re.MULTILINE):
        words = command.split("#")[0].split()
        name = words[0] if words[0] in ("merge", "update", "diff") else "compute"
        options = {o for p in get_command(specs_app).commands[name].params for o in p.opts}
        assert {word for word in words if word.startswith("-")} <= options
