"""Specs in parts, on several processes and of a fraction, are those of a single pass."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Executor, Future
from contextlib import contextmanager

import numpy as np
import pytest
import uproot

from hepdata_adapters import DatasetConfig, Sample, Specs, compute_specs
from hepdata_adapters.common.core.errors import ConfigError, DataError, SpecsError, WorkerError
from hepdata_adapters.common.events.layout import resolve
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.specs import parallel
from hepdata_adapters.common.specs.compute import specs_of
from hepdata_adapters.common.specs.merge import merge_specs
from hepdata_adapters.common.specs.parallel import Workers, answer
from hepdata_adapters.common.specs.part_sums import summary_of
from hepdata_adapters.common.specs.parts import joined, parts_of
from tests.helpers import specs_files
from tests.helpers.samples import write_events
from tests.helpers.specs_files import FEATURES, SIZES, config_of, small_units

seven = specs_files.seven


# processes


def test_two_processes_give_the_same_bytes(seven, tmp_path):
    reports: list[tuple[int, int]] = []
    compute_specs(config_of(*seven)).save(tmp_path / "one.json")
    two = compute_specs(config_of(*seven), lambda *done: reports.append(done), processes=2)
    two.save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert reports[-1] == (sum(SIZES), sum(SIZES))
    assert reports == sorted(reports)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"statistics": "weights"}, {"statistics": "classes"},
        {"split": {"identity": ["run_number"]}},
    ],
)  # fmt: skip
def test_threads_and_processes_give_the_same_bytes(seven, tmp_path, monkeypatch, options):
    small_units(monkeypatch, 100)
    samples = tuple(
        Sample(files=str(path), label=number % 2, weight={"branch": "MET"})
        for number, path in enumerate(seven)
    )
    config = DatasetConfig(samples=samples, features=FEATURES, **options)
    found = {}
    for name, workers in {
        "1 thread": {"threads": 1}, "2 threads": {"threads": 2}, "5 threads": {"threads": 5},
        "as many as there are cores": {}, "2 processes": {"processes": 2},
    }.items():  # fmt: skip
        reports: list[tuple[int, int]] = []
        specs = compute_specs(config, lambda *done, to=reports: to.append(done), **workers)
        specs.save(tmp_path / "specs.json")
        found[name] = (tmp_path / "specs.json").read_bytes()
        assert reports[-1] == (sum(SIZES), sum(SIZES))
        assert reports == sorted(set(reports))
        (tmp_path / "specs.json").unlink()
    assert len(set(found.values())) == 1


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


@pytest.mark.parametrize(
    "workers",
    [
        {"processes": 0}, {"processes": 2, "dask": "tcp://a:1"}, {"threads": 0}, {"threads": 257},
        {"processes": 2, "threads": 2},
    ],
)  # fmt: skip
def test_impossible_workers_are_refused(workers):
    with pytest.raises(ConfigError, match=r"processes|threads"):
        Workers(**workers)


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
