"""Selections: which events count, everywhere the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters import DatasetConfig, Sample, compute_specs
from hepdata_adapters.common.config.dataset_config import Split
from hepdata_adapters.common.core.errors import BranchError, ConfigError, SpecsError
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.samples import write_events

CUT = "count(Jet_pt > 20) >= 2 & MET < 50"


def passing(path: Path) -> set[int]:
    """Entries that the cut lets pass, by awkward."""
    arrays = uproot.open(path)["Events"].arrays()
    keep = (ak.sum(arrays.Jet_pt > 20, axis=1) >= 2) & (arrays.MET < 50)
    return set(np.flatnonzero(ak.to_numpy(keep)).tolist())


def config_of(files: list[Path], selections: list[str | None], **options: Any) -> DatasetConfig:
    samples = [
        Sample(files=str(path), label=number, selection=cut)
        for number, (path, cut) in enumerate(zip(files, selections, strict=True))
    ]
    document = {"features": ["passes", "Jet_pt"], "sampling": {"chunk_size": 70}} | options
    return DatasetConfig(samples=samples, **document)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A TTree and an RNTuple."""
    return [
        write_events(tmp_path / f"{n}.root", size, n, rntuple=n == 1)
        for n, size in enumerate((900, 400))
    ]


def delivered(dataset: Any) -> list[tuple[int, int]]:
    return [tuple(event) for batch in dataset for event in batch["event"].tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_selected_events_come_exactly_once_and_the_length_is_exact(files, workers):
    config = config_of(files, [CUT, None])
    dataset = RootIterableDataset(config, batch_size=64, progress=False)
    events = delivered(DataLoader(dataset, batch_size=None, num_workers=workers))
    wanted = [(0, entry) for entry in passing(files[0])] + [(1, entry) for entry in range(400)]
    assert Counter(events) == Counter(wanted)
    assert len(dataset) == -(-len(wanted) // 64)
    assert dataset.ledger.count("events not selected") == 900 - len(passing(files[0]))


def test_a_selection_does_not_move_events_between_splits(files):
    for split in ("train", "validation", "test"):
        whole = RootIterableDataset(
            config_of(files, [None, None]), batch_size=64, split=split, progress=False
        )
        cut = RootIterableDataset(
            config_of(files, [CUT, CUT]), batch_size=64, split=split, progress=False
        )
        wanted = {(f, e) for f, e in delivered(whole) if e in passing(files[f])}
        assert set(delivered(cut)) == wanted


def test_specs_see_selected_training_events_only(files):
    split = Split(train=1, validation=0, test=0)
    specs = compute_specs(config_of(files, ["MET > 40", "MET > 40"], features=["MET"], split=split))
    assert specs.branches["MET"].minimum > 40
    all_met = np.concatenate(
        [uproot.open(f)["Events/MET"].array(library="np") for f in files[:1]]
        + [ak.to_numpy(uproot.open(files[1])["Events"]["MET"].array())]
    )
    assert specs.branches["MET"].count == specs.events() == int((all_met > 40).sum())


def test_specs_of_another_selection_are_refused(files):
    specs = compute_specs(config_of(files, ["MET > 40", None]))
    with pytest.raises(SpecsError, match=r"the selection in .*0\.root is MET > 30, was MET > 40"):
        RootIterableDataset(config_of(files, ["MET > 30", None]), specs=specs, progress=False)


def test_selection_and_balance_go_together(files):
    config = config_of(files, [CUT, CUT], sampling={"balance": "under"}, task="binary")
    dataset = RootIterableDataset(config, batch_size=64, split="train", progress=False)
    labels = Counter(int(label) for batch in dataset for label in batch["label"])
    assert labels[0] == labels[1] > 0
    assert all(entry in passing(files[file]) for file, entry in delivered(dataset))


@pytest.mark.parametrize(
    ("cut", "error", "said"),
    [
        ("MTE > 3", ConfigError, "no branch 'MTE'; did you mean 'MET'"),
        ("Jet_pt > 3", ConfigError, "a value for each object"),
        ("__import__('os')", ConfigError, "no function '__import__'"),
        ("1 > 0", ConfigError, "names no branch"),
    ],
)
def test_a_selection_that_makes_no_sense_is_told(files, cut, error, said):
    with pytest.raises(error, match=said):
        RootIterableDataset(config_of(files, [cut, None]), progress=False)


def test_a_file_that_lacks_the_branch_is_named(files, make_file):
    other = make_file("other.root", passes=np.ones(5, bool), Jet_pt=np.ones(5))
    sample = Sample(files=[str(files[0]), str(other)], selection="MET > 3")
    config = DatasetConfig(samples=[sample], features=["passes"])
    with pytest.raises(BranchError, match=r"MET.*other\.root"):
        RootIterableDataset(config, progress=False)


def test_a_selection_that_lets_nothing_pass_is_told(files):
    with pytest.raises(Exception, match="training split is empty"):
        RootIterableDataset(config_of(files, ["MET < 0", "MET < 0"]), progress=False)
