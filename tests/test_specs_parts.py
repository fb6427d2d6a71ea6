"""Specs in parts: on several processes, of a fraction, merged, updated, weighted, compared."""

from __future__ import annotations

import json
import os
import re
import signal
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import scipy.special
import scipy.stats
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.main import get_command

from hepdata_adapters import DatasetConfig, Sample, Specs, compute_specs
from hepdata_adapters.cli.specs import specs_app
from hepdata_adapters.common.columns import Jagged
from hepdata_adapters.common.dataset import Dataset
from hepdata_adapters.common.derive import scan
from hepdata_adapters.common.errors import ConfigError, DataError, SpecsError, WorkerError
from hepdata_adapters.common.features import resolve
from hepdata_adapters.common.schema import Branch
from hepdata_adapters.common.specs import parallel
from hepdata_adapters.common.specs.compute import specs_of
from hepdata_adapters.common.specs.diff import (
    SKETCH_ERROR,
    compare,
    drift_of,
    ks_p_value,
    sketch_distance,
)
from hepdata_adapters.common.specs.merge import balanced, merge_specs
from hepdata_adapters.common.specs.model import ClassStatistics
from hepdata_adapters.common.specs.parallel import Workers, answer
from hepdata_adapters.common.specs.parts import joined, parts_of, summary_of
from hepdata_adapters.common.specs.statistics import BranchStatistics, summarize
from hepdata_adapters.common.specs.update import update_specs
from tests.samples import write_events

FLAT = Branch("x", "flat", "float64")
JETS = Branch("pt", "jagged", "float64")
SIZES = (700, 10, 1003, 400, 40, 900, 350)
FEATURES = ("MET", "passes", "Jet_pt", "Jet_id")


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seven")
    return [write_events(folder / f"{n}.root", size, seed=n) for n, size in enumerate(SIZES)]


def config_of(*paths: Path, **options: object) -> DatasetConfig:
    options = {"features": FEATURES} | options
    return DatasetConfig(samples=(Sample(files=tuple(map(str, paths))),), **options)


def classes_of(signal_files: list[Path], background: list[Path], **options) -> DatasetConfig:
    return DatasetConfig(
        samples=(
            Sample(files=tuple(map(str, signal_files)), label=1, weight="weight"),
            Sample(files=tuple(map(str, background)), label=0, weight=3.0),
        ),
        features=FEATURES,
        **options,
    )


def small_units(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    """Cut files into many units, as large files are."""
    bounds = "hepdata_adapters.common.manifest.unit_bounds.__defaults__"
    monkeypatch.setattr(bounds, ((1, entries),))


def same_within_bounds(one: Specs, other: Specs) -> None:
    """Counts, minimum, maximum exact; moments to 1e-12; quantiles within the sketch's bound."""
    assert one.binding == other.binding
    assert one.hash == other.hash
    assert one.branches.keys() == other.branches.keys()
    for name, mine in one.branches.items():
        theirs = other.branches[name]
        exact = {"count", "nan", "positive_infinity", "negative_infinity", "minimum", "maximum"}
        assert mine.model_dump(include=exact) == theirs.model_dump(include=exact)
        assert mine.lengths == theirs.lengths
        assert mine.mean == pytest.approx(theirs.mean, rel=1e-12)
        assert mine.std == pytest.approx(theirs.std, rel=1e-12)
        assert sketch_distance(mine.sketch, theirs.sketch) < 0.02  # each 0.01 off at most


# merging


def test_merged_from_seven_parts_equals_the_single_pass(seven):
    whole = compute_specs(config_of(*seven))
    merged = merge_specs([compute_specs(config_of(path)) for path in seven])
    same_within_bounds(merged, whole)
    merged.verify(whole.binding)


def test_merging_is_associative_and_keeps_the_bytes_of_a_pass_from_left_to_right(seven):
    a, b, c = (compute_specs(config_of(path)) for path in seven[:3])
    left, right = merge_specs([merge_specs([a, b]), c]), merge_specs([a, merge_specs([b, c])])
    same_within_bounds(left, right)
    assert left == compute_specs(config_of(*seven[:3])) == merge_specs([a, b, c])


weighted_values = st.integers(0, 40).flatmap(
    lambda size: st.tuples(
        arrays(np.float64, size, elements=st.floats(-1e6, 1e6)),
        arrays(np.float64, size, elements=st.sampled_from([0.0, 1e-3, 0.5, 1.0, 250.0])),
    )
)


@settings(deadline=None, max_examples=60)
@given(st.lists(weighted_values, min_size=3, max_size=3))
def test_weighted_statistics_merge_in_any_grouping(parts):
    a, b, c = (summarize(FLAT, values, weights) for values, weights in parts)
    values = np.concatenate([values for values, _ in parts])
    weights = np.concatenate([weights for _, weights in parts])
    for merged in (a.merge(b).merge(c), a.merge(b.merge(c))):
        assert merged.count == len(values)
        assert merged.weight == pytest.approx(weights.sum(), rel=1e-12)
        if weights.any():
            mean = np.average(values, weights=weights)
            variance = np.average((values - mean) ** 2, weights=weights)
            assert merged.mean == pytest.approx(mean, rel=1e-9, abs=1e-6)
            assert merged.std == pytest.approx(np.sqrt(variance), rel=1e-6, abs=1e-4)
            total = sum(weight for _, weight in merged.sketch)
            assert total == pytest.approx(weights.sum(), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": {"seed": 3}}, "split.seed is 3, was 0"),
        ({"features": ["MET"]}, "only one has Jet_id, Jet_pt, passes"),
        ({"statistics": "weights"}, "the statistics are of weights, were of events"),
    ],
)
def test_specs_of_another_kind_do_not_merge(seven, change, said):
    with pytest.raises(SpecsError, match=said):
        merge_specs(
            [compute_specs(config_of(seven[0])), compute_specs(config_of(seven[2], **change))]
        )


def test_specs_that_share_a_file_do_not_merge(seven):
    with pytest.raises(SpecsError, match=r"2\.root:Events is in both"):
        merge_specs(
            [compute_specs(config_of(*seven[:3])), compute_specs(config_of(seven[3], seven[2]))]
        )


# processes


def test_two_processes_give_the_same_bytes(seven, tmp_path):
    reports: list[tuple[int, int]] = []
    compute_specs(config_of(*seven)).save(tmp_path / "one.json")
    two = compute_specs(config_of(*seven), lambda *done: reports.append(done), processes=2)
    two.save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert reports[-1] == (sum(SIZES), sum(SIZES))
    assert reports == sorted(reports)


class LastFirst(Executor):
    """An executor that answers the last request first, in this process."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[str], object]] = []

    def submit(self, function, part):
        future: Future[str] = Future()
        self.asked.append((future, part))
        future.result = lambda: self.answer(future)
        return future

    def answer(self, wanted: Future[str]) -> str:
        for future, part in reversed(self.asked):
            if not future.done():
                future.set_result(answer(part))
        return Future.result(wanted)


def test_the_order_of_completion_does_not_matter(seven, monkeypatch):
    @contextmanager
    def executor(workers):
        yield LastFirst(), 1

    monkeypatch.setattr(parallel, "_executor", executor)
    config = config_of(*seven)
    assert compute_specs(config, processes=2) == compute_specs(config)


@pytest.mark.parametrize("entries", [1, 500, 10**6])
def test_parts_cover_each_unit_once(seven, entries, monkeypatch):
    small_units(monkeypatch, 100)
    config = config_of(*seven)
    manifest = scan(config)
    layout = resolve(config, manifest)
    parts = list(parts_of(config, manifest, layout, entries=entries))
    for number, file in enumerate(manifest.files):
        units = [u for p in parts if p.number == number for u in range(p.first, p.stop)]
        assert units == list(range(len(file.units) - 1))
    counts = specs_of(config, manifest, layout)
    summary = summary_of(parts[0])
    for part in parts[1:]:
        summary = joined(summary, summary_of(part))
    found = summary.classes[""].branches["Jet_pt"]
    assert found.mean == pytest.approx(counts.branches["Jet_pt"].mean, rel=1e-12)
    assert found.lengths == counts.branches["Jet_pt"].lengths


def test_an_error_in_a_worker_is_the_error(tmp_path):
    bad = tmp_path / "bad.root"
    with uproot.recreate(bad) as file:
        file["Events"] = {"x": np.array([1e300, -1e300, 1.0] * 50)}
    config = DatasetConfig(samples=(Sample(files=str(bad)),))
    messages = []
    for processes in (1, 2):
        with pytest.raises(DataError, match=r"too large.*bad\.root.*branch x") as caught:
            compute_specs(config, processes=processes)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def die(part: object) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_a_dead_worker_is_a_clear_error(seven, monkeypatch):
    monkeypatch.setattr(parallel, "answer", die)
    with pytest.raises(WorkerError, match=r"a worker process died while reading .*0\.root"):
        compute_specs(config_of(*seven), processes=2)


@pytest.mark.parametrize("workers", [{"processes": 0}, {"processes": 2, "dask": "tcp://a:1"}])
def test_impossible_workers_are_refused(workers):
    with pytest.raises(ConfigError, match="processes"):
        Workers(**workers)


# values that are too large


def test_moments_that_do_not_fit_are_an_error_naming_the_branch():
    for values in ([1e300, -1e300], [1.7e308] * 3, [0.0, 1e200]):
        with pytest.raises(OverflowError, match="does not fit"):
            summarize(FLAT, np.array(values))
    one, other = summarize(FLAT, np.zeros(5)), summarize(FLAT, np.full(5, 1e300))
    with pytest.raises(OverflowError, match="1e\\+300"):
        one.merge(other)
    with pytest.raises(DataError, match="branch x"):
        ClassStatistics(events=5, branches={"x": one}).merge(
            ClassStatistics(events=5, branches={"x": other})
        )


# a fraction


def test_a_fraction_counts_all_events_and_states_its_uncertainty(tmp_path, monkeypatch):
    small_units(monkeypatch, 50)
    path = write_events(tmp_path / "a.root", 6000, step=50)
    for options in ({}, {"split": {"identity": ["run_number"]}}):
        whole = compute_specs(config_of(path, **options))
        part = compute_specs(config_of(path, **options), fraction=0.3)
        assert part.binding == whole.binding
        assert part.sampled.of == 120
        assert part.sampled.events == part.branches["MET"].count
        assert 0.2 < part.sampled.events / whole.events("train") < 0.4
        for name in FEATURES[:3]:
            mine, true = part.branches[name], whole.branches[name]
            assert abs(mine.mean - true.mean) < 5 * mine.mean_error
            low, high = (mine.quantile(0.5 + s * 5 * mine.rank_error(0.5)) for s in (-1, 1))
            assert low <= true.quantile(0.5) <= high
        assert part == compute_specs(config_of(path, **options), fraction=0.3)
        part.verify(whole.binding)
        part.save(tmp_path / "part.json")
        assert Specs.load(tmp_path / "part.json") == part
        (tmp_path / "part.json").unlink()


def test_a_fraction_merges_like_the_whole(seven, monkeypatch):
    small_units(monkeypatch, 40)
    files = [seven[0], seven[2], seven[5]]
    parts = [compute_specs(config_of(path), fraction=0.5) for path in files]
    assert merge_specs(parts) == compute_specs(config_of(*files), fraction=0.5)
    with pytest.raises(SpecsError, match=r"fraction 0\.5, seed 0 and all"):
        merge_specs([parts[0], compute_specs(config_of(files[1]))])


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.5])
def test_an_impossible_fraction_is_refused(seven, fraction):
    with pytest.raises(ConfigError, match="fraction is above 0"):
        compute_specs(config_of(seven[0]), fraction=fraction)


def test_a_fraction_without_a_unit_is_an_error(seven):
    with pytest.raises(DataError, match="fraction 1e-09: raise it"):
        compute_specs(config_of(seven[0]), fraction=1e-9)


# updating


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1), (3, 2, 1, 0)])
def test_an_update_equals_a_new_pass(seven, order):
    old = compute_specs(config_of(seven[0], seven[1]))
    config = config_of(*(seven[number] for number in order))
    found = update_specs(config, old)
    same_within_bounds(found, compute_specs(config))
    Dataset.prepare(config, found)


def test_an_update_reads_only_the_new_files(seven):
    old = compute_specs(config_of(seven[0], seven[2]))
    reports: list[tuple[int, int]] = []
    update_specs(config_of(*seven[:4]), old, lambda *done: reports.append(done))
    assert reports[-1] == (SIZES[1] + SIZES[3],) * 2
    assert update_specs(config_of(seven[0], seven[2]), old) == old


def test_an_update_keeps_the_fraction(seven, monkeypatch):
    small_units(monkeypatch, 40)
    old = compute_specs(config_of(seven[0], seven[2]), fraction=0.7)
    config = config_of(seven[0], seven[2], seven[5])
    assert update_specs(config, old) == compute_specs(config, fraction=0.7)


def test_what_is_gone_or_changed_needs_a_new_pass(seven):
    old = compute_specs(config_of(*seven[:3]))
    for config, said in (
        (config_of(*seven[1:4]), r"0\.root is gone"),
        (config_of(*seven[:4], split={"seed": 1}), "split.seed is 1"),
        (config_of(*seven[:4], features=["MET"]), "the branches are others"),
    ):
        with pytest.raises(SpecsError, match=rf"cannot be updated: .*{said}.*A new pass is needed"):
            update_specs(config, old)


# weights and classes


def training_values(config: DatasetConfig, name: str) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Values, weight of each value, and label, of the training events of each file."""
    from hepdata_adapters.common.split import split_codes

    manifest = scan(config)
    layout = resolve(config, manifest)
    found = []
    for file in manifest.files:
        codes = split_codes(config.split, layout.identity, file, 0, file.entries, {})
        sample = config.samples[file.sample]
        tree = uproot.open(file.url)["Events"]
        column = tree[name].array()[codes == 0]
        weight = np.full(len(column), abs(sample.weight.constant))
        if sample.weight.branch:
            weight = np.abs(tree[sample.weight.branch].array().to_numpy()[codes == 0])
        repeats = ak.num(column).to_numpy() if column.ndim > 1 else 1
        values = ak.flatten(column, axis=None).to_numpy().astype(float)
        found.append((values, np.repeat(weight, repeats), int(sample.label)))
    return found


@pytest.mark.parametrize("name", ["MET", "Jet_pt"])
def test_weights_weigh_moments_and_quantiles_only(seven, name):
    config = classes_of(seven[:1], seven[2:4])
    read = training_values(config, name)
    values, weights = (np.concatenate([entry[i] for entry in read]) for i in (0, 1))
    plain = compute_specs(config).branches[name]
    specs = compute_specs(config.model_copy(update={"statistics": "weights"}))
    found = specs.branches[name]
    assert (found.count, found.minimum, found.maximum) == (
        plain.count, plain.minimum, plain.maximum,
    )  # fmt: skip
    assert found.lengths == plain.lengths
    mean = np.average(values, weights=weights)
    assert found.weight == pytest.approx(weights.sum(), rel=1e-12)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.std == pytest.approx(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    for q in (0.05, 0.5, 0.95):
        rank = weights[values < found.quantile(q)].sum() / weights.sum()
        assert rank == pytest.approx(q, abs=0.01)


@pytest.mark.parametrize("name", ["MET", "Jet_pt"])
def test_classes_have_the_same_total_weight(seven, name):
    config = classes_of(seven[:2], seven[2:4], statistics="classes")
    specs = compute_specs(config)
    read = training_values(config, name)
    by_class = [np.concatenate([v for v, _, label in read if label == c]) for c in (0, 1)]
    events = [specs.classes[str(c)].events for c in (0, 1)]
    assert sum(events) == specs.events("train")
    values = np.concatenate(by_class)
    weights = np.concatenate(
        [np.full(len(v), 1 / n) for v, n in zip(by_class, events, strict=True)]
    )
    found = specs.branches[name]
    assert found.count == len(values)
    mean = np.average(values, weights=weights)
    assert found.mean == pytest.approx(mean, rel=1e-12)
    assert found.std == pytest.approx(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    rank = weights[values < found.quantile(0.84)].sum() / weights.sum()
    assert rank == pytest.approx(0.84, abs=0.01)
    assert balanced(specs.classes) == specs.branches


@pytest.mark.parametrize("statistics", ["weights", "classes"])
def test_weighted_specs_are_bound_merged_and_the_same_on_two_processes(seven, statistics, tmp_path):
    config = classes_of(seven[:2], seven[2:4], statistics=statistics)
    whole = compute_specs(config)
    assert compute_specs(config, processes=2) == whole
    whole.save(tmp_path / "specs.json")
    assert Specs.load(tmp_path / "specs.json") == whole
    plain = config.model_copy(update={"statistics": "events"})
    with pytest.raises(SpecsError, match=f"the statistics are of events, were of {statistics}"):
        Dataset.prepare(plain, whole)
    assert compute_specs(plain).hash != whole.hash
    old = compute_specs(classes_of(seven[:1], seven[2:3], statistics=statistics))
    same_within_bounds(update_specs(config, old), whole)


def test_weights_normalised_to_a_cross_section_do_not_merge(seven):
    def config(path: Path) -> DatasetConfig:
        weight = {"cross_section": 2.0, "luminosity": 10.0}
        sample = Sample(files=str(path), weight=weight)
        return DatasetConfig(samples=(sample,), features=["MET"], statistics="weights")

    with pytest.raises(SpecsError, match="normalised to a cross section"):
        merge_specs([compute_specs(config(path)) for path in (seven[0], seven[2])])


def test_classes_need_labels_that_are_classes(seven):
    with pytest.raises(ConfigError, match="statistics: classes needs labels"):
        compute_specs(config_of(seven[0], statistics="classes"))


def test_unweighted_specs_say_nothing_of_weights(seven, tmp_path):
    """Files written before weights existed keep their bytes, their hash and their checksum."""
    compute_specs(config_of(seven[0])).save(tmp_path / "specs.json")
    text = (tmp_path / "specs.json").read_text()
    assert not re.search("weight|classes|sampled|statistics|drops", text)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e9])
def test_weighted_quantiles_do_not_depend_on_the_unit_of_the_weights(scale):
    random = np.random.default_rng(0)
    values, weights = random.normal(size=20_000), random.exponential(size=20_000)
    found = summarize(FLAT, values, weights * scale)
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    for q in (0.01, 0.16, 0.5, 0.84, 0.99):
        assert found.quantile(q) == pytest.approx(
            values[order][np.searchsorted(below, q)], abs=0.03
        )


def test_events_of_no_weight_leave_no_trace():
    found = summarize(FLAT, np.array([1.0, 2.0]), np.zeros(2))
    assert (found.count, found.weight, found.mean, found.std, found.quantile(0.5)) == (
        2,
        0,
        0,
        0,
        0,
    )
    assert found.merge(summarize(FLAT, np.array([4.0]), np.ones(1))).mean == 4.0


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
    text = (Path(__file__).resolve().parents[1] / "docs" / "specs.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.+?)```", text, re.DOTALL))
    exec(compile(code, "docs/specs.md", "exec"), {"__name__": "docs"})
    for command in re.findall(r"^hepdata-adapters specs (.+)$", text, re.MULTILINE):
        words = command.split("#")[0].split()
        name = words[0] if words[0] in ("merge", "update", "diff") else "compute"
        options = {o for p in get_command(specs_app).commands[name].params for o in p.opts}
        assert {word for word in words if word.startswith("-")} <= options
