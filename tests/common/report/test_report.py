"""The report: what stands on the page is true, escaped, whole and the same every time."""

from __future__ import annotations

import base64
import sys
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import ConfigError, MissingExtraError
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.report import report
from hepdata_adapters.common.report.binning import raw_binning, scaled_binning
from hepdata_adapters.common.report.collect import Collected, collect
from hepdata_adapters.common.report.correlation import Correlation
from hepdata_adapters.common.report.html import element
from hepdata_adapters.common.report.html import text as html_text
from hepdata_adapters.common.report.reading import BLOCK, shares, training_blocks
from hepdata_adapters.common.report.sections import correlation_section
from hepdata_adapters.common.specs.sums import summarize
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from tests.conftest import EXAMPLES
from tests.helpers.samples import write_events

VOID = {"img", "meta", "br", "hr"}


class Page(HTMLParser):
    """A parsed page: tags that are not closed as they were opened are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [given[name] for kind, given in self.tags if kind == tag and name in given]

    def after(self, text: str, start: int = 0) -> str:
        """The text that follows this one, such as the value of a fact."""
        return self.texts[self.texts.index(text, start) + 1]


def prepared(**config: object) -> Dataset:
    return Dataset.prepare(RunConfig.model_validate({"name": "made", **config}))


def collected(dataset: Dataset, events: int | None = None) -> Collected:
    wanted = shares(dataset, events)
    return collect(dataset, training_blocks(dataset, wanted), sum(wanted))


def training_batch(dataset: Dataset) -> dict[str, np.ndarray]:
    """All training events as a training sees them, by way of the stream."""
    everything = EpochOptions(10**6, shuffle=False, seed=0).epoch()
    with EventStream(dataset, "train") as stream:
        (batch,) = everything.batches(stream, None)
    return batch


@pytest.fixture(scope="module")
def two_files(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("report")
    return [str(write_events(folder / f"{name}.root", 900, seed=name)) for name in (1, 2)]


@pytest.fixture(scope="module")
def everything(two_files) -> Dataset:
    """Every representation, on made events."""
    signal, background = two_files
    return prepared(
        samples=[
            {"name": "signal", "files": signal, "label": 1, "weight": "weight"},
            {"name": "background", "files": background, "label": 0, "weight": "weight"},
        ],
        columns={"HT": "sum(Jet_pt)"},
        features=[
            {"branch": "MET", "scaling": "log1p", "clip": [5, 100]},
            {"branch": "HT", "scaling": "robust"},
            {"branch": "Jet_pt", "length": 2},
            {"branch": "ratio", "expression": "MET / HT", "missing": -1.0, "indicator": True},
            "passes",
        ],
        inputs={
            "jets": {"kind": "set", "features": ["Jet_pt", "Jet_id"], "length": 4},
            "ragged_jets": {"kind": "ragged", "features": ["Jet_pt"]},
            "picture": {
                "kind": "image",
                "axes": [{"branch": "Jet_pt", "bins": 4, "range": [0, 80]},
                         {"branch": "Jet_id", "bins": 3}],
                "channels": ["count", "Jet_pt"], "channels_last": True,
            },
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(everything) -> Page:
    return Page(report(everything).decode())


def test_the_page_is_whole_and_needs_nothing_else(page):
    kinds = {tag for tag, _ in page.tags}
    assert {"html", "h1", "nav", "table", "img", "pre"} <= kinds
    assert not kinds & {"script", "link", "iframe", "object"}
    sources = page.attributes("img", "src")
    assert len(sources) >= 15
    for source in sources:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"
    assert all(page.attributes("img", "alt"))


def test_every_link_of_the_contents_leads_somewhere(page, everything):
    links, places = page.attributes("a", "href"), page.attributes("section", "id")
    assert len(set(places)) == len(places)
    assert {link.removeprefix("#") for link in links} == set(places)
    assert len(links) == 7 + len(everything.transform.columns)


@pytest.fixture(scope="module")
def small(two_files) -> Dataset:
    """Two samples without labels, one feature."""
    return prepared(samples=[{"files": file} for file in two_files], features=["MET"])


def test_the_same_data_give_the_same_bytes(small):
    assert report(small) == report(small)


def test_numbers_of_a_feature_are_those_of_numpy(page, everything):
    batch = training_batch(everything)
    start = page.texts.index("MET", page.texts.index("Config") + 1)
    scaled = batch["x"][:, 0].astype(np.float64)
    clipped = page.after("values clipped")
    assert clipped == "MET"
    stats = everything.specs.branches["MET"]
    assert page.after("minimum, maximum", start) == f"{stats.minimum:.4g}, {stats.maximum:.4g}"
    facts = page.texts.index("real values", start)
    assert page.texts[facts + 1] == f"{len(scaled):,}"
    assert page.after("mean, std", facts) == f"{scaled.mean():.4g}, {scaled.std():.4g}"
    assert page.after("minimum, maximum", facts) == f"{scaled.min():.4g}, {scaled.max():.4g}"


def test_distributions_are_those_of_the_real_values_of_the_stream(everything):
    found, batch = collected(everything), training_batch(everything)
    feature = everything.transform.features[2]
    x, mask = batch["x"][:, 2:4], batch["mask"][:, 2:4]
    distribution = found.scaled["x", feature.branch]
    edges = distribution.binning.edges
    for label in (0, 1):
        values = x[batch["label"] == label][mask[batch["label"] == label]]
        counts = np.histogram(values, edges)[0] / len(values)
        np.testing.assert_allclose(distribution.heights()[label], counts, atol=1e-12)
    assert distribution.count == mask.sum()
    np.testing.assert_allclose(distribution.mean, x[mask].mean(dtype=np.float64), rtol=1e-9)
    sets = batch["jets"][batch["jets_mask"]]
    np.testing.assert_allclose(found.scaled["jets", "Jet_id"].std, sets[:, 1].std(), rtol=1e-5)
    assert found.scaled["ragged_jets", "Jet_pt"].count == len(batch["ragged_jets"])


def test_mean_images_are_those_of_the_stream(everything):
    found, batch = collected(everything), training_batch(everything)
    for label in (0, 1):
        sums = batch["picture"][batch["label"] == label].sum(axis=0, dtype=np.float64)
        np.testing.assert_allclose(found.images["picture"][label], np.moveaxis(sums, -1, 0))


def test_correlations_are_those_of_the_pairs_that_are_real(everything):
    found, batch = collected(everything), training_batch(everything)
    matrix, x, mask = found.correlation.matrix(), batch["x"].astype(np.float64), batch["mask"]
    for i, j in [(0, 1), (1, 2), (2, 3), (0, 4)]:
        both = mask[:, i] & mask[:, j]
        expected = np.corrcoef(x[both, i], x[both, j])[0, 1]
        assert matrix[i, j] == pytest.approx(expected, abs=1e-9)
        assert found.correlation.events[i, j] == both.sum()


def test_jagged_branches_with_the_same_lengths_stand_together(everything, page):
    assert collected(everything).together == [["Jet_pt", "Jet_id"]]
    lengths = everything.specs.branches["Jet_pt"].lengths.counts
    share = sum(n for length, n in lengths.items() if length > 2) / sum(lengths.values())
    assert any(f"the first 2; {100 * share:.1f} % of events have more" in t for t in page.texts)


def test_what_the_transform_does_is_said(page):
    text = " ".join(page.texts)
    assert "log(1 + value)" in text
    assert "to 5 … 100" in text
    assert "become -1" in text
    assert "with an indicator column" in text
    assert "sum(Jet_pt)" in text
    assert "Every event counts once" in text


def test_names_are_text_and_never_markup(make_file):
    evil = "<script>alert('x')</script> & $\\frac{1}{2$ \u4e2d"
    file = make_file(a=np.arange(90.0), **{"b": np.tile([1.0, 2.0], 45)})
    dataset = prepared(
        samples=[{"name": evil, "files": str(file), "selection": "a >= 0 && b < 3"}],
        columns={"c": "a * (b < 1.5)"},
        features=["a", "c"],
    )
    text = report(dataset).decode()
    page = Page(text)
    assert "<script" not in text
    assert "script" not in {tag for tag, _ in page.tags}
    assert evil in page.texts
    assert "a * (b < 1.5)" in page.texts


def test_constant_and_empty_columns_are_flagged(make_file):
    file = make_file(a=np.arange(60.0), same=np.full(60, 7.0), none=np.full(60, np.nan))
    dataset = prepared(
        samples=[{"files": str(file)}],
        features=["a", "same", {"branch": "none", "missing": 0.0}],
    )
    text = " ".join(Page(report(dataset).decode()).texts)
    assert "same is constant (7): of no use to a model." in text
    assert "none has no values in training: of no use to a model." in text
    assert "none: raw values: no values, nothing to draw." in text


def test_refused_events_are_counted_and_not_an_error(make_file):
    values = np.arange(400.0)
    values[::10] = np.nan
    file = make_file(a=values, b=np.ones(400))
    dataset = prepared(samples=[{"files": str(file)}], features=["a", "b"])
    found = collected(dataset)
    stats = dataset.specs.branches["a"]
    assert found.refused == {"a": stats.nan}
    assert found.raw["a"].count == found.scaled["x", "a"].count == stats.count
    text = " ".join(Page(report(dataset).decode()).texts)
    assert f"{stats.nan} training event(s) are refused: a holds NaN or infinity." in text


def test_a_part_of_the_events_keeps_the_share_of_each_file(small):
    whole = shares(small, None)
    assert sum(whole) == small.specs.events("train")
    part = shares(small, 200)
    assert abs(sum(part) - 200) <= len(part)
    assert shares(small, 10**9) == whole
    with pytest.raises(ConfigError, match="at least 1"):
        report(small, events=0)
    assert collected(small, 200).events.tolist() == part
    text = " ".join(Page(report(small, events=200).decode()).texts)
    assert f"{sum(part):,} of them, those that come first in each file" in text


def test_weights_count_where_the_scaling_was_learnt_with_them(two_files):
    dataset = prepared(
        samples=[{"files": two_files[0], "label": 1, "weight": "weight"},
                 {"files": two_files[1], "label": 0, "weight": "weight"}],
        features=["MET"], statistics="weights",
    )  # fmt: skip
    found, batch = collected(dataset), training_batch(dataset)
    weight = np.abs(batch["weight"])
    distribution = found.scaled["x", "MET"]
    assert distribution.mean == pytest.approx(
        np.average(batch["x"][:, 0], weights=weight), abs=1e-6
    )
    own = batch["label"] == 1
    counts = np.histogram(batch["x"][own, 0], distribution.binning.edges, weights=weight[own])[0]
    np.testing.assert_allclose(distribution.heights()[1], counts / weight[own].sum(), atol=1e-12)
    assert found.negative.sum() == (batch["weight"] < 0).sum()


def test_memory_does_not_grow_with_the_events(make_file):
    def peak(files: int) -> int:
        random = np.random.default_rng(files)
        made = [make_file(f"{files}-{n}.root", a=random.random(2 * BLOCK)) for n in range(files)]
        dataset = prepared(samples=[{"files": list(map(str, made))}], features=["a"])
        tracemalloc.start()
        found = collected(dataset)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.events.sum() == dataset.specs.events("train")
        return most

    peak(1)  # what is imported on first use
    assert peak(8) < peak(3) + 2**19  # the values of five more files are 1.3 MB


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=200),
    st.sampled_from([None, {"kind": "asinh"}]),
)
@settings(max_examples=100)
def test_bins_hold_nearly_all_values_before_and_after_scaling(numbers, function):
    values = np.array(numbers)
    stats = summarize(Branch("a", "flat", "float64"), values)
    raw = raw_binning(stats)
    if raw is None:
        assert values.min() == values.max()
        return
    assert (np.diff(raw.edges) > 0).all()
    inside = (values >= raw.edges[0]) & (values < raw.edges[-1])
    assert inside.mean() >= 0.98 or (~inside).sum() <= 2
    feature = FeatureTransform(
        branch="a", kind="flat", dtype="float64", width=1, function=function, center=3, factor=0.1
    )
    scaled = scaled_binning(feature, raw, stats)
    if scaled is not None:
        found = feature.encode(values[inside]).values
        assert ((found >= scaled.edges[0]) & (found < scaled.edges[-1])).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=50)
def test_correlations_do_not_depend_on_the_chunks(seed, chunks):
    random = np.random.default_rng(seed)
    values = random.normal(1e4, 1.0, (60, 3)) @ random.normal(size=(3, 3))
    real, weight = random.random((60, 3)) < 0.8, random.random(60)
    whole, parts = Correlation(3), Correlation(3)
    whole.add(values, real, weight)
    for rows in np.array_split(np.arange(60), chunks):
        parts.add(values[rows], real[rows], weight[rows])
    np.testing.assert_allclose(whole.matrix(), parts.matrix(), atol=1e-6)
    both = real[:, 0] & real[:, 1]
    covariance = np.cov(values[both, :2].T, aweights=weight[both])
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert whole.matrix()[0, 1] == pytest.approx(expected, abs=1e-6)


def test_the_command_writes_the_page(tmp_path: Path, capsys):
    samples = [
        {"name": name, "files": f"{EXAMPLES / file}:Events", "label": label}
        for name, file, label in (("ttH", "tth_0.root", 1), ("QCD", "qcd_0.root", 0))
    ]
    config = {"name": "tth", "samples": samples, "features": ["HT", "Jet_pt"]}
    path, output = tmp_path / "config.yaml", tmp_path / "out" / "page.html"
    path.write_text(yaml.safe_dump(config))
    command = ["report", str(path), "-o", str(output), "--events", "500"]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "2 branches" in printed.out
    assert "reading training events" in printed.err
    page = Page(output.read_text("utf-8"))
    assert page.texts[0] == "tth: data report"
    assert "0 (QCD)" in page.texts
    assert [entry.name for entry in output.parent.iterdir()] == ["page.html"]
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0


def test_without_labels_the_samples_are_compared(small):
    text = " ".join(Page(report(small).decode()).texts)
    assert "none, the samples have no labels" in text
    assert collected(small).groups == ["1.root", "2.root"]


def test_many_classes_share_the_last_curve(make_file):
    label = np.arange(600) % 12
    file = make_file(a=label * 1.5, label=label)
    dataset = prepared(
        samples=[{"files": str(file), "label": "label"}], task="multiclass", features=["a"]
    )
    found = collected(dataset)
    assert found.groups[-2:] == ["class 6", "the other 5"]
    events = np.bincount(np.minimum(training_batch(dataset)["label"], 7))
    assert found.events.tolist() == events.tolist()


def test_many_columns_are_correlated_by_their_first_values(make_file):
    random = np.random.default_rng(0)
    file = make_file(**{f"a{i}": random.random(90) for i in range(70)})
    dataset = prepared(samples=[{"files": str(file)}])
    assert collected(dataset).columns == list(range(60))
    section = element("div", *correlation_section(dataset, collected(dataset)))
    assert "60 of 70 columns of x: the first ones of every branch" in html_text(section)


@pytest.mark.parametrize("axes", [1, 3])
def test_images_of_any_number_of_axes_are_drawn(two_files, axes):
    bins = [{"branch": f"Jet_{name}", "bins": 3, "range": [0, 60]} for name in ("pt", "id", "two")]
    dataset = prepared(
        samples=[{"files": two_files[0]}],
        columns={"Jet_two": "2 * Jet_pt"},
        features=["MET"],
        inputs={"picture": {"kind": "image", "axes": bins[:axes], "sparse": True}},
    )
    found = collected(dataset)
    assert found.images["picture"].shape == (1, 1, *[3] * axes)
    assert found.images["picture"].sum() == training_batch(dataset)["picture_values"].sum()
    page = Page(report(dataset).decode())
    assert any(text.startswith("mean image of picture") for text in page.attributes("img", "alt"))
    assert any("Summed over Jet_two." in text for text in page.texts) == (axes == 3)


@pytest.mark.parametrize("module", ["hist", "mplhep"])
def test_a_missing_extra_is_told_with_its_command(small, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"hepdata-adapters\[plots\]"):
        report(small)
