"""Specs on a Dask cluster: the same bytes, clear errors, and nothing left running."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uproot

from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.core.errors import DataError, MissingExtraError, WorkerError
from hepdata_adapters.common.specs import parallel
from tests.helpers.samples import write_events

distributed = pytest.importorskip("distributed", reason="Dask is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as running:
        yield running.scheduler_address


def config_of(*paths: Path) -> DatasetConfig:
    return DatasetConfig(samples=(Sample(files=tuple(map(str, paths))),))


def test_a_cluster_gives_the_same_bytes(cluster, tmp_path):
    paths = [write_events(tmp_path / f"{n}.root", 300 + n, seed=n) for n in range(5)]
    reports: list[tuple[int, int]] = []
    compute_specs(config_of(*paths)).save(tmp_path / "one.json")
    found = compute_specs(config_of(*paths), lambda *done: reports.append(done), dask=cluster)
    found.save(tmp_path / "dask.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "dask.json").read_bytes()
    assert reports[-1] == (1510, 1510)


def test_an_error_on_a_cluster_is_the_error(cluster, tmp_path):
    path = tmp_path / "bad.root"
    with uproot.recreate(path) as file:
        file["Events"] = {"x": np.array([1e300, -1e300, 1.0] * 50)}
    with pytest.raises(DataError, match=r"too large.*bad\.root.*branch x"):
        compute_specs(config_of(path), dask=cluster)


def test_no_scheduler_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "SECONDS_TO_CONNECT", 1)
    path = write_events(tmp_path / "a.root", 30)
    with pytest.raises(WorkerError, match="no Dask scheduler answers at tcp://127"):
        compute_specs(config_of(path), dask="tcp://127.0.0.1:9")


def test_without_dask_the_error_is_the_install_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    path = write_events(tmp_path / "a.root", 30)
    with pytest.raises(MissingExtraError, match=r"pip install \"hepdata-adapters\[dask\]\""):
        compute_specs(config_of(path), dask="tcp://127.0.0.1:9")
