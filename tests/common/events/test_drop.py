"""``missing: drop`` and ``overflow: drop``: events that never were, counted with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.delivery import exactly_once
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream

LENGTHS = [0, 1, 2, 3, 9]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 events; every tenth MET is NaN, every fifth event has 9 jets."""
    path = tmp_path_factory.mktemp("drop") / "a.root"
    met = np.arange(600, dtype=np.float32)
    met[::10] = np.nan
    counts = np.resize(LENGTHS, 600)
    jets = ak.unflatten(np.arange(counts.sum(), dtype=np.float32), counts)
    with uproot.recreate(path) as file:
        file["Events"] = {"MET": met, "Jet_pt": jets}
    return path


def prepared(path: Path, **config: Any) -> Dataset:
    document = {"samples": [{"files": str(path), "label": 1}], **config}
    return Dataset.prepare(DatasetConfig.model_validate(document))


FEATURES = [
    {"branch": "MET", "missing": "drop"},
    {"branch": "Jet_pt", "length": 3, "overflow": "drop"},
]


@pytest.mark.parametrize("as_set", [False, True])
def test_events_are_left_out_once_and_counted_by_reason(path: Path, as_set: bool) -> None:
    jets = {"kind": "set", "features": ["Jet_pt"], "length": 3, "overflow": "drop"}
    config = {"features": FEATURES[:1], "inputs": {"jets": jets}} if as_set else {}
    dataset = prepared(path, **({"features": FEATURES} | config))
    kept = [n for n in range(600) if n % 10 and n % 5 != 4]
    assert dataset.specs.events() == len(kept)
    with EventStream(dataset, None) as stream:
        batches = list(EpochOptions(64, shuffle=True, seed=3).epoch().batches(stream, None))
    assert sorted(np.concatenate([b["event"][:, 1] for b in batches]).tolist()) == kept
    ledger = dataset.notes()
    assert ledger.to_dict()["events left out by a policy"] == {
        "NaN or infinity in MET": 60, "more than 3 values in Jet_pt": 120,
    }  # fmt: skip
    assert ledger.count("events not selected") == 0
    assert exactly_once(dataset, split=None, runs=[(1, 0), (2, 2)]).events == len(kept)


def test_a_server_refuses_what_training_left_out(path: Path) -> None:
    transform = prepared(path, features=FEATURES).transform
    events = [{"MET": 1.0, "Jet_pt": [1.0]}, {"MET": None, "Jet_pt": []},
              {"MET": 2.0, "Jet_pt": [1.0, 2.0, 3.0, 4.0]}]  # fmt: skip
    _, faults = columns_from_events(events, transform)
    assert faults == {
        1: "MET holds NaN or infinity", 2: "Jet_pt has 4 values, at most 3 fit",
    }  # fmt: skip


@pytest.mark.parametrize("length", ["max", 0.9])
def test_how_long_is_too_long_must_be_known_before(path: Path, length: Any) -> None:
    feature = {"branch": "Jet_pt", "length": length, "overflow": "drop"}
    with pytest.raises(ConfigError, match=r"Jet_pt: overflow: drop .* give a number of values"):
        prepared(path, features=[feature])


def test_other_policies_make_other_specs(path: Path) -> None:
    hashes = {
        prepared(path, features=["MET"], defaults={"missing": missing}).specs.hash
        for missing in ("drop", "mean")
    }
    assert len(hashes) == 2
