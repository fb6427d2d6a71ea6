"""One place says which events of a unit count, and each label and weight is found once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.events import unit_events
from hepdata_adapters.common.events.layout import resolve
from hepdata_adapters.common.events.unit_events import UnitEvents, read_unit
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream

EVENTS = 600
COLUMNS = ("x", "y", "w")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    made = tmp_path_factory.mktemp("units") / "a.root"
    with uproot.recreate(made) as file:
        file.mktree("Events", {"x": np.float32, "y": np.int32, "w": np.float32})
        file["Events"].extend(
            {
                "x": random.normal(size=EVENTS).astype(np.float32),
                "y": random.integers(0, 3, EVENTS).astype(np.int32),
                "w": random.normal(1, 1, EVENTS).astype(np.float32),
            }
        )
    return made


def config_of(path: Path, **options: Any) -> DatasetConfig:
    sample = Sample(
        files=str(path), label="y", weight={"branch": "w", "constant": 2.0}, selection="x > -1"
    )
    return DatasetConfig(samples=[sample], features=["x"], task="multiclass", **options)


@pytest.fixture
def events(path: Path) -> UnitEvents:
    config = config_of(path)
    manifest = scan(config)
    with Source(COLUMNS) as source:
        unit = read_unit(source, manifest.files[0], 0)
    return UnitEvents(unit, config, resolve(config, manifest))


def counting(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often labels, weights and splits of a unit are found from now on."""
    calls: Counter[str] = Counter()

    def counted(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls[name] += 1
            return found(*given)

        return call

    for name in ("labels_of", "weights_of", "member_codes"):
        monkeypatch.setattr(unit_events, name, counted(name, getattr(unit_events, name)))
    return calls


def test_events_of_a_split_have_their_own_rows_labels_and_weights(events):
    truth = {name: np.asarray(events.unit.columns[name]) for name in COLUMNS}
    parts = [events.of(split) for split in ("train", "validation", "test")]
    every = np.sort(np.concatenate([part.rows for part in parts]))
    np.testing.assert_array_equal(every, np.flatnonzero(truth["x"] > -1))
    np.testing.assert_array_equal(every, events.of(None).rows)
    for part in parts:
        np.testing.assert_array_equal(part.labels, truth["y"][part.rows])
        np.testing.assert_array_equal(part.weights, 2.0 * truth["w"][part.rows].astype(float))
        assert (part.labels.dtype, part.weights.dtype) == (np.int64, np.float64)
        identity = part.identity(7)
        assert identity.dtype == np.int64
        np.testing.assert_array_equal(identity[:, 0], 7)
        np.testing.assert_array_equal(identity[:, 1], part.rows + events.unit.start)


@pytest.mark.parametrize("which", [np.array([5, 0, 5, 9]), slice(3, 8), np.array([], np.int64)])
def test_what_is_known_of_events_is_known_of_some_of_them(events, which, monkeypatch):
    calls = counting(monkeypatch)
    train = events.of("train")
    fresh = train.taken(which)
    wanted = fresh.labels, fresh.weights
    labels, weights = train.labels, train.weights
    assert calls == {"member_codes": 1, "labels_of": 2, "weights_of": 2}
    known = train.taken(which)
    np.testing.assert_array_equal(known.rows, fresh.rows)
    np.testing.assert_array_equal(known.labels, wanted[0])
    np.testing.assert_array_equal(known.weights, wanted[1])
    np.testing.assert_array_equal(known.labels, labels[which])
    np.testing.assert_array_equal(known.weights, weights[which])
    np.testing.assert_array_equal(known.of(None).rows, known.rows)
    assert calls == {"member_codes": 1, "labels_of": 2, "weights_of": 2}


@pytest.mark.parametrize(
    "sampling", [{}, {"balance": "over"}, {"resample": True, "balance": "weights"}]
)
def test_the_stream_finds_each_label_and_weight_once(path, sampling, monkeypatch):
    dataset = Dataset.prepare(config_of(path, sampling=sampling))
    with EventStream(dataset, "train") as stream:
        parts: list[Any] = []
        chunks, write = stream._chunks, stream._chunks._write
        monkeypatch.setattr(
            chunks, "_write", lambda part, to: parts.append(part) or write(part, to)
        )
        calls = counting(monkeypatch)
        list(EpochOptions(64, shuffle=True, seed=0).epoch().batches(stream, None))
    assert parts
    units = {(part.file, part.unit) for part in parts}
    expected = {"labels_of": len(parts), "weights_of": len(parts), "member_codes": len(units)}
    assert calls == expected


def test_nothing_else_finds_labels_weights_or_members_of_units():
    package = Path(unit_events.__file__).parents[2]
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\b(labels_of|weights_of|member_codes)\(", path.read_text())
    }
    assert users == {
        f"common/events/{name}.py" for name in ("labels", "selection", "unit_events", "weights")
    }
