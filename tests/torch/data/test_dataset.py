"""RootIterableDataset against a plain uproot read of the same events."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.config.dataset_config import DEFAULT_MEMORY
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.samples import write_events

FEATURES = ["MET", "passes", "Jet_pt", "Jet_id"]
PAD = 4


def dataset_of(files: list[Path], **options) -> RootIterableDataset:
    options = {
        "features": FEATURES,
        "defaults": {"scaling": "none", "length": PAD},
        "progress": False,
        "sampling": {"chunk_size": 70},
    } | options
    labels = {str(path): number % 2 for number, path in enumerate(files)}
    return RootIterableDataset(labels, **options)


def expected_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """x and mask of all events of a file, made with awkward alone."""
    tree = uproot.open(path)["Events"]
    columns, masks = [], []
    for name in FEATURES:
        array = tree[name].array()
        if array.ndim == 1:
            columns.append(ak.to_numpy(array)[:, None].astype(np.float32))
            masks.append(np.ones((len(array), 1), bool))
        else:
            padded = ak.pad_none(array, PAD, clip=True)
            columns.append(ak.to_numpy(ak.fill_none(padded, 0)).astype(np.float32))
            masks.append(~ak.to_numpy(ak.is_none(padded, axis=1)))
    return np.hstack(columns), np.hstack(masks)


def collect(loader) -> dict[str, torch.Tensor]:
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def check_exactly_once(parts: list[dict[str, torch.Tensor]], files: list[Path]) -> None:
    """Every event of the files once, each row what a plain read gives."""
    expected = [expected_rows(path) for path in files]
    seen: Counter[tuple[int, int]] = Counter()
    for part in parts:
        for row, (file, entry) in enumerate(part["event"].tolist()):
            if file < 0:
                assert part["weight"][row] == 0
                assert not part["mask"][row].any()
                continue
            seen[file, entry] += 1
            x, mask = expected[file]
            np.testing.assert_array_equal(part["x"][row].numpy(), x[entry])
            np.testing.assert_array_equal(part["mask"][row].numpy(), mask[entry])
            assert part["label"][row] == file % 2
    assert seen == Counter(
        (number, entry) for number, (x, _) in enumerate(expected) for entry in range(len(x))
    )


@pytest.mark.parametrize("chunk_size", [1, 70, 333, 10**6])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_files_of_3000_10_and_1003_events_come_exactly_once(
    three_files, chunk_size, shuffle, ranks
):
    """MLaaS4HEP delivered 2912, 0 and 1003 of them at chunk size 70."""
    batch_size = 16 if chunk_size == 1 else 64
    parts, lengths = [], set()
    for rank in range(ranks):
        dataset = dataset_of(
            three_files, batch_size=batch_size, shuffle=shuffle, rank=rank, world_size=ranks,
            sampling={"chunk_size": chunk_size},
        )  # fmt: skip
        batches = list(dataset)
        assert len(batches) == len(dataset)
        lengths.add(tuple(len(batch["x"]) for batch in batches))
        parts.append(collect(batches))
    assert len(lengths) == 1, "ranks must make the same steps"
    check_exactly_once(parts, three_files)


@pytest.mark.parametrize(
    ("workers", "ranks", "batch_size"),
    [(1, 3, 64), (2, 2, 64), (3, 2, 64), (3, 3, None)],
)
def test_workers_of_a_real_dataloader_deliver_every_event_once(
    three_files, workers, ranks, batch_size
):
    parts = []
    for rank in range(ranks):
        dataset = dataset_of(three_files, batch_size=batch_size, rank=rank, world_size=ranks)
        loader = DataLoader(
            dataset, batch_size=64 if batch_size is None else None, num_workers=workers
        )
        parts.append(collect(loader))
        padding = dataset.ledger.count("padding rows for equal ranks")
        delivered = dataset.ledger.count("events delivered")
        assert delivered + padding == len(parts[-1]["x"])
    check_exactly_once(parts, three_files)


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_batches_do_not_depend_on_the_number_of_workers(three_files, workers):
    dataset = dataset_of(three_files, batch_size=64)
    one = [batch["event"].tolist() for batch in dataset]
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert [batch["event"].tolist() for batch in loader] == one


def test_without_shuffling_events_come_in_file_order(three_files):
    dataset = dataset_of(three_files, batch_size=100, shuffle=False)
    events = collect(DataLoader(dataset, batch_size=None, num_workers=2))["event"].tolist()
    assert events == sorted(events)


def test_set_epoch_reshuffles_and_reaches_persistent_workers(three_files):
    dataset = dataset_of(three_files, batch_size=256)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    first = collect(loader)["event"].tolist()
    dataset.set_epoch(1)
    second = collect(loader)["event"].tolist()
    assert first != second
    assert sorted(first) == sorted(second)


def test_splits_share_no_event_and_cover_all(three_files):
    found = {}
    for split in ("train", "validation", "test"):
        dataset = dataset_of(three_files, batch_size=128, split=split)
        found[split] = set(map(tuple, collect(dataset)["event"].tolist()))
        assert len(dataset) == -(-len(found[split]) // 128)
    assert sum(map(len, found.values())) == 4013
    assert len(set().union(*found.values())) == 4013
    for split, fraction in (("train", 0.64), ("validation", 0.16), ("test", 0.2)):
        assert abs(len(found[split]) / 4013 - fraction) < 0.05  # over 6 sigma


def test_the_split_of_an_event_does_not_change_when_files_are_renamed_or_reordered(
    three_files, tmp_path
):
    copies = [tmp_path / f"{9 - number}.root" for number in range(3)]
    for old, new in zip(three_files, copies, strict=True):
        new.write_bytes(old.read_bytes())

    def identities(files):
        dataset = dataset_of(files, batch_size=500, split="test")
        manifest = dataset.prepared.manifest.files
        events = collect(dataset)["event"].tolist()
        return {(manifest[file].uuid, entry) for file, entry in events}

    assert identities(three_files) == identities(copies[::-1])


def test_wide_integers_and_weights_keep_their_digits(three_files):
    dataset = RootIterableDataset(
        [str(path) for path in three_files], features=["MET"], batch_size=500, progress=False,
        task=None, shuffle=False,
    )  # fmt: skip
    assert collect(dataset)["event"].dtype == torch.int64
    path = three_files[0]
    sample = {"files": str(path), "label": 1, "weight": {"branch": "weight", "constant": 2.0}}
    dataset = RootIterableDataset(
        _config([sample]), batch_size=500, shuffle=False, progress=False, features=["MET"]
    )
    found = collect(dataset)["weight"]
    assert found.dtype == torch.float64
    weights = uproot.open(path)["Events"]["weight"].array(library="np")
    np.testing.assert_array_equal(found.numpy(), 2.0 * weights)
    assert (found < 0).any()


def test_labels_from_a_branch(three_files):
    sample = {"files": [str(path) for path in three_files], "label": "passes"}
    dataset = RootIterableDataset(_config([sample]), batch_size=500, progress=False)
    assert dataset.prepared.layout.task == "binary"
    assert "passes" not in dataset.feature_names
    batch = collect(dataset)
    truth = [uproot.open(path)["Events"]["passes"].array(library="np") for path in three_files]
    expected = [int(truth[file][entry]) for file, entry in batch["event"].tolist()]
    assert batch["label"].tolist() == expected


def test_regression_labels_keep_the_digits_of_the_branch(three_files):
    sample = {"files": str(three_files[0]), "label": "weight"}
    dataset = RootIterableDataset(
        _config([sample]), task="regression", batch_size=500, shuffle=False, progress=False
    )
    weights = uproot.open(three_files[0])["Events"]["weight"].array(library="np")
    np.testing.assert_array_equal(collect(dataset)["label"].numpy(), weights)


def test_single_events_have_no_batch_axis_and_len_counts_them(three_files):
    dataset = dataset_of(three_files, batch_size=None, split="test")
    event = next(iter(dataset))
    assert event["x"].shape == (dataset.num_features,)
    assert event["event"].shape == (2,)
    assert len(list(dataset)) == len(dataset)


def test_overlong_events_are_truncated_and_counted(three_files):
    dataset = dataset_of(three_files, batch_size=128, features=["Jet_pt"])
    batch = collect(dataset)
    counts = np.concatenate(
        [ak.num(uproot.open(path)["Events"]["Jet_pt"].array()).to_numpy() for path in three_files]
    )
    assert int(batch["lengths"].sum()) == int(np.minimum(counts, PAD).sum())
    over = np.maximum(counts - PAD, 0)
    ledger = dataset.ledger
    assert ledger.count("values beyond the pad length", "Jet_pt") == over.sum()
    assert ledger.count("events with values beyond the pad length") == (over > 0).sum()


def test_the_default_pad_length_is_the_99th_percentile_of_training(three_files):
    dataset = RootIterableDataset(
        [str(path) for path in three_files], features=["Jet_pt"], split="train", batch_size=64,
        progress=False,
    )  # fmt: skip
    events = collect(dataset)["event"].tolist()
    counts = [
        ak.num(uproot.open(path)["Events"]["Jet_pt"].array()).to_numpy() for path in three_files
    ]
    trained = [counts[file][entry] for file, entry in events]
    assert dataset.num_features == np.quantile(trained, 0.99, method="inverted_cdf")


def test_rntuple_and_ttree_give_the_same_rows(tmp_path):
    rows = []
    for name, rntuple in (("tree.root", False), ("ntuple.root", True)):
        path = write_events(tmp_path / name, 500, seed=3, rntuple=rntuple)
        dataset = dataset_of([path], batch_size=100, shuffle=False)
        rows.append(collect(dataset))
    for key in ("x", "mask", "lengths"):
        assert torch.equal(rows[0][key], rows[1][key])


def test_members_of_rntuple_collections_are_features(tmp_path):
    path = tmp_path / "collection.root"
    jets = ak.Array(
        [[{"pt": 1.0, "eta": -1.0}, {"pt": 2.0, "eta": 0.5}], [], [{"pt": 3.0, "eta": 2.0}]]
    )
    with uproot.recreate(path) as file:
        file["Events"] = {"Jet": jets, "MET": np.array([1.0, 2.0, 3.0])}
    config = DatasetConfig(
        samples=[Sample(files=str(path))],
        features=["Jet.eta", "MET", "Jet.pt"],
        defaults={"scaling": "none", "length": 2},
        split={"train": 1, "validation": 0, "test": 0},  # three events may miss any split
    )
    dataset = RootIterableDataset(config, batch_size=3, shuffle=False, progress=False)
    assert next(iter(dataset))["x"].tolist() == [
        [-1.0, 0.5, 1.0, 1.0, 2.0],
        [0.0] * 2 + [2.0, 0.0, 0.0],
        [2.0, 0.0, 3.0, 3.0, 0.0],
    ]


def test_ranks_default_to_the_environment(three_files, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    dataset = dataset_of(three_files, batch_size=100)
    assert dataset.ranks == (1, 2)
    assert len(dataset) == -(-4013 // 200)


def test_a_rank_with_no_row_of_the_last_batch_gets_padding(tmp_path):
    path = write_events(tmp_path / "few.root", 40)
    parts = [
        collect(dataset_of([path], batch_size=13, rank=rank, world_size=3)) for rank in range(3)
    ]
    assert [len(part["x"]) for part in parts] == [14, 14, 14]
    assert [int((part["event"][:, 0] < 0).sum()) for part in parts] == [0, 1, 1]
    check_exactly_once(parts, [path])


def test_the_unit_caches_of_all_samples_keep_to_one_bound(three_files):
    """Each sample had a cache of its own, so many samples took as many times the memory."""
    bound = 150_000  # all units together have 180 kB
    chunks = DEFAULT_MEMORY - dataset_of(three_files, batch_size=64).prepared.unit_bytes
    dataset = dataset_of(three_files, batch_size=64, reading={"memory": chunks + bound})
    assert len(collect(dataset)["x"]) == 4013
    (stream,) = dataset._streams[os.getpid()]
    kept = [source.cached_bytes for source in stream._chunks._sources.values()]
    assert len(kept) == 1
    assert 0 < sum(kept) <= bound


def test_breaking_off_an_epoch_leaves_the_next_whole(three_files):
    dataset = dataset_of(three_files, batch_size=64)
    for _ in zip(range(3), DataLoader(dataset, batch_size=None, num_workers=2), strict=False):
        pass
    check_exactly_once([collect(dataset)], three_files)


def test_a_bad_split_name_is_refused(three_files):
    with pytest.raises(ConfigError, match="split is one of train, validation, test or None"):
        dataset_of(three_files, split="valid")


def _config(samples):
    return DatasetConfig(samples=samples)


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_go_into_torchs_losses_as_they_come(three_files, workers):
    """Those of two classes were int64, which BCEWithLogitsLoss refuses."""
    loader = DataLoader(
        dataset_of(three_files, batch_size=32), batch_size=None, num_workers=workers
    )
    batch = next(iter(loader))
    assert batch["label"].dtype == torch.float32
    assert set(batch["label"].tolist()) <= {0.0, 1.0}
    torch.nn.BCEWithLogitsLoss()(torch.zeros(32), batch["label"])
    single = next(iter(DataLoader(dataset_of(three_files, batch_size=None), batch_size=8)))
    torch.nn.BCEWithLogitsLoss()(torch.zeros(8), single["label"])
    several = dataset_of(three_files, batch_size=32, task="multiclass")
    batch = next(iter(DataLoader(several, batch_size=None, num_workers=workers)))
    assert batch["label"].dtype == torch.int64
    torch.nn.CrossEntropyLoss()(torch.zeros(32, 2), batch["label"])
