"""decode(encode(events)) is the events, in memory and through a ROOT file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.inference.decode import inverse, write_root
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from tests.helpers.samples import event_arrays, write_events

SCALINGS = ["none", "minmax", "standard", "robust", "log", "log1p", "asinh", "quantile"]


def batch_of(path: Path, **config: Any) -> tuple[Dataset, dict[str, Any]]:
    document = {"samples": [{"files": str(path)}], **config}
    dataset = Dataset.prepare(DatasetConfig.model_validate(document))
    with EventStream(dataset, None) as stream:
        return dataset, next(
            EpochOptions(10_000, shuffle=False, seed=0).epoch().batches(stream, None)
        )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_events_come_back(tmp_path: Path, scaling: str) -> None:
    path = write_events(tmp_path / "a.root", 900)
    features = [{"branch": name, "scaling": scaling} for name in ("MET", "Jet_pt")]
    dataset, batch = batch_of(path, features=features, defaults={"length": "max"},
                              split={"train": 1, "validation": 0, "test": 0})  # fmt: skip
    events = inverse(dataset.transform, batch)
    wanted = ak.Array(event_arrays(900, 0))
    assert ak.num(events.Jet_pt).to_list() == ak.num(wanted.Jet_pt).to_list()
    for name in ("MET", "Jet_pt"):
        here, there = (np.asarray(ak.ravel(array[name]), np.float64) for array in (events, wanted))
        # float32 keeps 6e-8 of the scaled value; how much of the value that is, `decode` says
        np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-6 * np.abs(there).max())


def test_sets_and_ragged_values_come_back(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 300)
    dataset, batch = batch_of(
        path, features=["MET"],
        inputs={"jets": {"kind": "set", "features": ["Jet_pt"], "length": "max"},
                "all": {"kind": "ragged", "features": ["Jet_id"]}},
        split={"train": 1, "validation": 0, "test": 0},
    )  # fmt: skip
    events, wanted = inverse(dataset.transform, batch), ak.Array(event_arrays(300, 0))
    assert events.fields == ["MET", "Jet_pt", "Jet_id"]
    assert ak.all(ak.isclose(events.Jet_pt, wanted.Jet_pt, rtol=1e-6, atol=1e-4))
    assert ak.all(np.round(events.Jet_id) == wanted.Jet_id)


def test_a_file_of_decoded_events_reads_as_the_first(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 300)
    dataset, batch = batch_of(path, features=["MET", "Jet_*"], defaults={"length": "max"},
                              split={"train": 1, "validation": 0, "test": 0})  # fmt: skip
    events = inverse(dataset.transform, batch)
    write_root(tmp_path / "b.root", events)
    with uproot.open(tmp_path / "b.root") as file:
        tree = file["Events"]
        assert set(tree.keys()) == {"MET", "nJet", "Jet_pt", "Jet_id"}
        found = tree.arrays()
    assert ak.all(found.Jet_pt == events.Jet_pt)
    assert ak.all(found.MET == events.MET)
    again, second = batch_of(tmp_path / "b.root", features=["MET", "Jet_*"],
                             defaults={"length": "max"},
                             split={"train": 1, "validation": 0, "test": 0})  # fmt: skip
    assert again.transform.num_features == dataset.transform.num_features
    np.testing.assert_allclose(second["x"], batch["x"], atol=1e-5)
    assert not list(tmp_path.glob(".*partial"))


def test_an_image_cannot_be_decoded(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 300)
    image = {"kind": "image", "axes": [{"branch": "Jet_pt", "bins": 4}]}
    dataset, batch = batch_of(path, features=[], inputs={"im": image})
    with pytest.raises(ConfigError, match="nothing to decode in im"):
        inverse(dataset.transform, {"im": batch["im"]})
