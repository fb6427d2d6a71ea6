"""One config on a real NanoAOD file against an independent computation with awkward and vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import vector

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream

NAME = "nanoAOD_2015_CMS_Open_Data_ttbar.root"
ETA, PHI = np.linspace(-2.4, 2.4, 13), np.linspace(-np.pi, np.pi, 17)
CONFIG: dict[str, Any] = {
    "objects": {
        "Jet": {"selection": "Jet_pt > 30 && abs(Jet_eta) < 2.4", "sort_by": "Jet_pt"},
        "Muon": {"selection": "Muon_pt > 5 && !Muon_tightId", "sort_by": "Muon_pfRelIso04_all",
                 "order": "ascending"},
        "Electron": {"sort_by": "abs(Electron_eta)"},
    },
    "columns": {
        "HT": "sum(Jet_pt)",
        "dijet_mass": "invariant_masses(Jet_pt[0], Jet_eta[0], Jet_phi[0], Jet_mass[0], "
        "Jet_pt[1], Jet_eta[1], Jet_phi[1], Jet_mass[1])",
        "all_jets_mass": "InvariantMass(Jet_pt, Jet_eta, Jet_phi, Jet_mass)",
        "Jet_dphi": "deltaphi(Jet_phi, MET_phi)",
        "Jet_energy": "energy(Jet_pt, Jet_eta, Jet_phi, Jet_mass)",
        "n_btag": "count(Jet_btagCSVV2 > 0.8484)",
    },
    "features": [
        {"branch": "MET_pt", "scaling": "log1p"},
        {"branch": "HT", "scaling": "robust"},
        {"branch": "dijet_mass", "missing": -1.0, "scaling": "none", "indicator": True},
        {"branch": "all_jets_mass", "scaling": "asinh"},
        {"branch": "n_btag", "scaling": "none"},
    ],
    "inputs": {
        "jets": {
            "kind": "set", "length": 5,
            "features": [{"branch": "Jet_pt", "scaling": "log"}, "Jet_eta", "Jet_dphi",
                         {"branch": "Jet_btagCSVV2", "scaling": "minmax"}],
        },
        "muons": {"kind": "set", "length": "max", "features": ["Muon_pt", "Muon_charge"]},
        "electrons": {
            "kind": "set", "length": 2, "dtype": "int64",
            "features": [{"branch": "Electron_pdgId", "scaling": "none"}],
        },
        "calo": {
            "kind": "image", "channels": ["Jet_energy", "count"],
            "axes": [{"branch": "Jet_eta", "edges": ETA.tolist()},
                     {"branch": "Jet_phi", "edges": PHI.tolist(), "periodic": True}],
        },
        "tracks": {
            "kind": "ragged", "features": ["Jet_eta", {"branch": "Jet_pt", "clip": [0, 200]}],
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(shared_data: Path) -> Dataset:
    samples = [{"files": str(shared_data / NAME), "tree": "Events"}]
    return Dataset.prepare(DatasetConfig.model_validate({"samples": samples, **CONFIG}))


@pytest.fixture(scope="module")
def batch(dataset: Dataset) -> dict[str, Any]:
    """All events in the order of the file."""
    with EventStream(dataset, None) as stream:
        return next(EpochOptions(1000, shuffle=False, seed=0).epoch().batches(stream, None))


@pytest.fixture(scope="module")
def events(shared_data: Path) -> Any:
    """The file, read and cut without any code of ours."""
    vector.register_awkward()
    tree = uproot.open(shared_data / NAME)["Events"]
    raw = tree.arrays(filter_name=["MET_p*", "Jet_*", "Muon_*", "Electron_*"])

    def group(name: str) -> Any:
        fields = [field for field in raw.fields if field.startswith(f"{name}_")]
        return ak.zip({field.removeprefix(f"{name}_"): raw[field] for field in fields},
                      with_name="Momentum4D")  # fmt: skip

    jets, muons, electrons = group("Jet"), group("Muon"), group("Electron")
    jets = jets[(jets.pt > 30) & (abs(jets.eta) < 2.4)]
    jets = jets[ak.argsort(jets.pt, ascending=False, stable=True)]
    muons = muons[(muons.pt > 5) & ~muons.tightId]
    muons = muons[ak.argsort(muons.pfRelIso04_all, ascending=True, stable=True)]
    electrons = electrons[ak.argsort(abs(electrons.eta), ascending=False, stable=True)]
    return {"raw": raw, "jets": jets, "muons": muons, "electrons": electrons}


def training(dataset: Dataset, values: Any) -> Any:
    """The training events of a column in file order."""
    with EventStream(dataset, "train") as stream:
        batches = list(EpochOptions(1000, shuffle=False, seed=0).epoch().batches(stream, None))
    return values[batches[0]["event"][:, 1]]


def padded(values: Any, length: int) -> Any:
    return ak.to_numpy(ak.fill_none(ak.pad_none(values, length, clip=True), 0))


def standard(dataset: Dataset, values: Any) -> Any:
    inside = ak.to_numpy(ak.flatten(training(dataset, values))).astype(np.float64)
    return (ak.values_astype(values, np.float64) - inside.mean()) / inside.std()


def test_the_vector(dataset: Dataset, batch: dict[str, Any], events: Any) -> None:
    x = {name: batch["x"][:, i] for i, name in enumerate(dataset.transform.feature_names)}
    jets, raw = events["jets"], events["raw"]
    pt = ak.values_astype(jets.pt, np.float64)
    ht = ak.to_numpy(ak.sum(pt, axis=1))
    two = ak.pad_none(jets, 2)
    found = (two[:, 0] + two[:, 1]).mass
    mass = ak.to_numpy(ak.fill_none(found, np.nan))
    assert list(x) == [
        "MET_pt", "HT", "dijet_mass", "dijet_mass_missing", "all_jets_mass", "n_btag",
    ]  # fmt: skip
    np.testing.assert_allclose(x["dijet_mass"], np.where(np.isnan(mass), -1, mass), rtol=2e-4)
    np.testing.assert_array_equal(x["dijet_mass_missing"], np.isnan(mass))
    np.testing.assert_array_equal(x["n_btag"], ak.sum(jets.btagCSVV2 > 0.8484, axis=1))
    inside = training(dataset, ht)
    low, middle, high = np.quantile(inside, [0.16, 0.5, 0.84])
    # the sketch interpolates between events otherwise than numpy
    np.testing.assert_allclose(x["HT"], (ht - middle) / ((high - low) / 2), atol=0.05, rtol=0.05)
    energy = ak.sum(jets.E, axis=1)
    momenta = (ak.sum(getattr(jets, axis), axis=1) for axis in ("px", "py", "pz"))
    whole = np.sqrt(np.maximum(ak.to_numpy(energy**2 - sum(p**2 for p in momenta)), 0))
    assert dataset.transform.vector is not None
    back = dataset.transform.vector.inverse(batch["x"], batch["mask"])
    np.testing.assert_allclose(np.asarray(back["MET_pt"]), raw.MET_pt, rtol=1e-5)
    some = whole > 1  # a single jet's mass is what is left of two large numbers
    np.testing.assert_allclose(np.asarray(back["all_jets_mass"])[some], whole[some], rtol=1e-3)
    assert np.isfinite(batch["x"]).all()


def test_sets_of_jets_muons_and_electrons(
    dataset: Dataset, batch: dict[str, Any], events: Any
) -> None:
    jets, muons, electrons = events["jets"], events["muons"], events["electrons"]
    mask = ak.to_numpy(ak.num(jets))[:, None] > np.arange(5)
    np.testing.assert_array_equal(batch["jets_mask"], mask)
    np.testing.assert_allclose(
        batch["jets"][:, :, 1], padded(standard(dataset, jets.eta), 5), rtol=1e-5, atol=1e-6
    )
    turn = ak.values_astype(jets.phi, np.float64) - ak.values_astype(
        events["raw"].MET_phi, np.float64
    )
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(
        batch["jets"][:, :, 2], padded(standard(dataset, turn), 5), rtol=1e-5, atol=1e-6
    )
    tag = ak.values_astype(jets.btagCSVV2, np.float64)
    inside = ak.flatten(training(dataset, tag))
    low, high = ak.min(inside), ak.max(inside)
    np.testing.assert_allclose(
        batch["jets"][:, :, 3], padded((tag - low) / (high - low), 5), rtol=1e-5, atol=1e-6
    )
    longest = int(ak.max(training(dataset, ak.num(muons))))
    assert batch["muons"].shape == (200, longest, 2)
    np.testing.assert_allclose(
        batch["muons"][:, :, 0], padded(standard(dataset, muons.pt), longest), rtol=1e-5, atol=1e-6
    )
    assert batch["electrons"].dtype == np.int64
    np.testing.assert_array_equal(batch["electrons"][:, :, 0], padded(electrons.pdgId, 2))


def test_the_image(batch: dict[str, Any], events: Any) -> None:
    jets = events["jets"]
    eta, phi = (ak.values_astype(jets[name], np.float64) for name in ("eta", "phi"))
    for row in range(len(jets)):
        here = [ak.to_numpy(values[row]) for values in (eta, phi, jets.E)]
        for channel, weights in ((0, here[2]), (1, None)):
            image, _, _ = np.histogram2d(here[0], here[1], bins=(ETA, PHI), weights=weights)
            np.testing.assert_allclose(batch["calo"][row, channel], image, rtol=2e-5, atol=1e-4)


def test_ragged_values(dataset: Dataset, batch: dict[str, Any], events: Any) -> None:
    jets = events["jets"]
    np.testing.assert_array_equal(np.diff(batch["tracks_offsets"]), ak.num(jets))
    np.testing.assert_allclose(
        batch["tracks"][:, 0], ak.flatten(standard(dataset, jets.eta)), rtol=1e-5, atol=1e-6
    )
    tracks: Any = dataset.transform.inputs["tracks"]
    back = tracks.inverse(Jagged(batch["tracks"], batch["tracks_offsets"]))["Jet_pt"]
    clipped = np.minimum(ak.to_numpy(ak.flatten(jets.pt)), 200)
    np.testing.assert_allclose(back.content, clipped, rtol=1e-5)


def test_raw_events_as_a_server_gets_them(dataset: Dataset, batch: dict[str, Any]) -> None:
    """Through Python lists, and the transform saved and read: the same numbers, to the bit."""
    transform = type(dataset.transform).model_validate_json(dataset.transform.model_dump_json())
    file = dataset.manifest.files[0].as_written
    with Source([branch.name for branch in transform.branches]) as source:
        raw = source.read(file, 0, file.entries)
    columns, faults = columns_from_events(events_from_columns(raw), transform)
    assert not faults
    arrays = transform.model_input(transform(transform.prepare(columns)).arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, batch[name], err_msg=name)


def test_branches_that_no_feature_needs_are_not_asked_for(dataset: Dataset) -> None:
    names = {branch.name for branch in dataset.transform.branches}
    assert "Jet_area" not in names
    assert {"Jet_mass", "MET_phi", "Muon_tightId", "Electron_eta"} <= names
