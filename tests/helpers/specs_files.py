"""For the tests of specs in parts: seven files, configs of them, what may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepdata_adapters import DatasetConfig, Sample, Specs
from hepdata_adapters.common.files.schema import Branch
from hepdata_adapters.common.specs.diff import sketch_distance
from tests.helpers.samples import write_events

FLAT = Branch("x", "flat", "float64")
SIZES = (700, 10, 1003, 400, 40, 900, 350)
FEATURES = ("MET", "passes", "Jet_pt", "Jet_id")


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seven")
    return [write_events(folder / f"{n}.root", size, seed=n) for n, size in enumerate(SIZES)]


def config_of(*paths: Path, **options: object) -> DatasetConfig:
    options = {"features": FEATURES} | options
    return DatasetConfig(samples=(Sample(files=tuple(map(str, paths))),), **options)


def small_units(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    """Cut files into many units, as large files are."""
    bounds = "hepdata_adapters.common.files.manifest.unit_bounds.__defaults__"
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
