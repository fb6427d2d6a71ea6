"""Class balance and resampling of training events: composition, weights and their signs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.config.dataset_config import Sampling
from hepdata_adapters.common.core.errors import ConfigError, DataError
from hepdata_adapters.torch import RootIterableDataset

SIZES = {0: 4000, 1: 600, 2: 1500}


def write(path: Path, label: int, events: int, rntuple: bool = False) -> Path:
    random = np.random.default_rng(label)
    counts = random.poisson(2, events)
    arrays = {
        "x": random.normal(label, 1, events).astype(np.float32),
        "label": np.full(events, label, np.int32),
        # a third of the weights is negative, as of an NLO generator
        "w": random.exponential(2, events) * np.where(random.random(events) < 1 / 3, -1, 1),
        "pt": ak.unflatten(random.exponential(size=counts.sum()).astype(np.float32), counts),
    }
    with uproot.recreate(path) as file:
        if rntuple:
            file["Events"] = arrays
            return path
        file.mktree(
            "Events", {k: "var * float32" if k == "pt" else v.dtype for k, v in arrays.items()}
        )
        for start in range(0, events, 300):
            file["Events"].extend({k: v[start : start + 300] for k, v in arrays.items()})
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("classes")
    return {n: write(folder / f"{n}.root", n, size, n == 2) for n, size in SIZES.items()}


def dataset_of(
    files: dict[int, Path], by_branch: bool = False, **options: Any
) -> RootIterableDataset:
    samples = [
        Sample(files=str(path), label="label" if by_branch else n, weight="w")
        for n, path in files.items()
    ]
    sampling = {"chunk_size": 500} | options.pop("sampling", {})
    config = DatasetConfig(
        samples=samples, features=["x", "pt"], sampling=sampling, task="multiclass",
        split={"train": 0.8, "validation": 0.1, "test": 0.1},
    )  # fmt: skip
    return RootIterableDataset(
        config, **{"split": "train", "batch_size": 256, "progress": False} | options
    )


def epoch_of(dataset: Any) -> dict[str, np.ndarray]:
    batches = list(dataset)
    return {
        name: np.concatenate([batch[name].numpy() for batch in batches])
        for name in ("label", "weight", "event", "x")
    }


def training_sizes(files: dict[int, Path]) -> dict[int, int]:
    return dict(Counter(epoch_of(dataset_of(files))["label"].tolist()))


@pytest.mark.parametrize("by_branch", [False, True])
@pytest.mark.parametrize("proportions", [None, {0: 0.5, 1: 0.3, 2: 0.2}])
@pytest.mark.parametrize("method", ["over", "under"])
def test_classes_come_in_the_proportions_asked_for(files, method, proportions, by_branch):
    natural = training_sizes(files)
    sampling = {"balance": method, "proportions": proportions}
    dataset = dataset_of(files, by_branch, sampling=sampling)
    found = epoch_of(dataset)
    shares = proportions or dict.fromkeys(natural, 1 / 3)
    counts = Counter(found["label"].tolist())
    for number, share in shares.items():
        assert counts[number] == pytest.approx(share * len(found["label"]), abs=1.5)
    choose = max if method == "over" else min
    whole = choose(natural[n] / shares[n] for n in natural)
    assert len(found["label"]) == pytest.approx(whole, abs=2)
    assert len(dataset) == -(-len(found["label"]) // 256)
    for number in natural:
        times = Counter(map(tuple, found["event"][found["label"] == number].tolist()))
        # as equally often as can be: nobody a third time before all came twice
        assert max(times.values()) - min(times.values()) <= 1
        assert (len(times) == natural[number]) == (counts[number] >= natural[number])


def test_undersampling_shows_other_events_in_each_epoch(files):
    dataset = dataset_of(files, sampling={"balance": "under"})
    seen: Counter[tuple[int, ...]] = Counter()
    sizes = training_sizes(files)
    epochs = -(-sizes[0] // sizes[1])
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        found = epoch_of(dataset)
        seen.update(map(tuple, found["event"][found["label"] == 0].tolist()))
    assert len(seen) == sizes[0]
    assert set(seen.values()) <= {1, 2}


@pytest.mark.parametrize("by_branch", [False, True])
def test_weights_are_scaled_so_that_their_sums_have_the_proportions(files, by_branch):
    plain = epoch_of(dataset_of(files))
    sampling = {"balance": "weights", "proportions": {0: 0.2, 1: 0.5, 2: 0.3}}
    found = epoch_of(dataset_of(files, by_branch, sampling=sampling))
    assert sorted(map(tuple, found["event"].tolist())) == sorted(
        map(tuple, plain["event"].tolist())
    )
    whole = plain["weight"].sum()
    for number, share in sampling["proportions"].items():
        own = found["weight"][found["label"] == number]
        assert own.sum() == pytest.approx(share * whole, rel=1e-9)
        assert (own < 0).mean() == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("by_branch", [False, True])
def test_resampling_keeps_the_sum_of_the_weights_and_their_signs(files, by_branch):
    plain = epoch_of(dataset_of(files))
    found = epoch_of(dataset_of(files, by_branch, sampling={"resample": True}))
    assert len(set(np.abs(found["weight"]).tolist())) == 1
    reference = np.abs(found["weight"][0])
    assert reference == pytest.approx(np.abs(plain["weight"]).mean())
    for number in SIZES:
        weight = plain["weight"][plain["label"] == number]
        drawn = found["weight"][found["label"] == number]
        # each event comes floor(|w|/r) or one time more: the variance of that is at most 1/4
        rest = (np.abs(weight) / reference) % 1
        sigma = reference * np.sqrt((rest * (1 - rest)).sum())
        assert abs(drawn.sum() - weight.sum()) < 3 * sigma
        assert abs(np.abs(drawn).sum() - np.abs(weight).sum()) < 3 * sigma


def test_the_naive_method_fails_where_weights_are_negative(files):
    """``random < weight`` (as in a rival) drops every event of negative weight."""
    plain = epoch_of(dataset_of(files))
    weight, scale = plain["weight"], plain["weight"].max()
    kept = np.random.default_rng(1).random(len(weight)) < weight / scale
    sigma = scale * np.sqrt(kept.sum())
    assert abs(kept.sum() * scale - weight.sum()) > 5 * sigma
    assert not (weight[kept] < 0).any()


@pytest.mark.parametrize(
    "sampling", [{"balance": "over"}, {"balance": "under"}, {"resample": True}]
)
def test_ranks_and_workers_share_what_one_process_delivers(files, sampling):
    whole = epoch_of(dataset_of(files, sampling=sampling))
    parts = []
    for rank in (0, 1):
        dataset = dataset_of(files, sampling=sampling, rank=rank, world_size=2, batch_size=128)
        parts.append(epoch_of(DataLoader(dataset, batch_size=None, num_workers=2)))
    shared = Counter(tuple(e) for part in parts for e in part["event"].tolist() if e[0] >= 0)
    assert shared == Counter(map(tuple, whole["event"].tolist()))
    again = epoch_of(dataset_of(files, sampling=sampling))
    np.testing.assert_array_equal(again["event"], whole["event"])
    np.testing.assert_array_equal(again["x"], whole["x"])


def test_other_splits_keep_their_composition(files):
    sampling = {"balance": "over"}
    for split in ("validation", "test"):
        one = epoch_of(dataset_of(files, split=split))
        other = epoch_of(dataset_of(files, split=split, sampling=sampling))
        np.testing.assert_array_equal(one["event"], other["event"])
        np.testing.assert_array_equal(one["weight"], other["weight"])


@pytest.mark.parametrize("sampling", [{"balance": "weights"}, {"resample": True}])
def test_the_counts_are_made_once(files, sampling, monkeypatch):
    first = epoch_of(dataset_of(files, sampling=sampling))
    monkeypatch.setattr("hepdata_adapters.common.events.class_counts.count", None)
    second = epoch_of(dataset_of(files, sampling=sampling))
    np.testing.assert_array_equal(first["weight"], second["weight"])


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"proportions": {0: 1}}, "need balance"),
        ({"balance": "over", "resample": True}, "excludes 'over'"),
        ({"balance": "both"}, "balance"),
        ({"balance": "over", "proportions": {0: 0.5, 1: -1}}, "greater than 0"),
    ],
)
def test_a_sampling_that_makes_no_sense_is_refused(sampling, said):
    with pytest.raises(ValueError, match=said):
        Sampling(**sampling)


def test_proportions_of_other_classes_are_refused(files):
    with pytest.raises(ConfigError, match=r"differ in 2, 7: the classes are 0, 1, 2"):
        dataset_of(files, sampling={"balance": "over", "proportions": {0: 1, 1: 1, 7: 1}})


def test_sampling_without_classes_is_refused(files):
    with pytest.raises(ConfigError, match="need labels that are classes"):
        RootIterableDataset(
            str(files[0]), features=["x"], sampling={"balance": "over"}, progress=False
        )


def test_weights_that_add_up_to_nothing_are_refused(make_file):
    path = make_file(x=np.arange(300.0), w=np.zeros(300), label=np.arange(300) % 2)
    sample = Sample(files=str(path), label="label", weight="w")
    config = DatasetConfig(
        samples=[sample], features=["x"], task="binary", sampling={"balance": "weights"}
    )
    with pytest.raises(DataError, match="weight 0"):
        RootIterableDataset(config, progress=False)


def test_samples_add_up_to_cross_section_times_luminosity(files):
    samples = [
        Sample(files=str(path), label=n,
               weight={"branch": "w", "constant": 1.5, "cross_section": 2.0 + n, "luminosity": 100})
        for n, path in files.items()
    ]  # fmt: skip
    config = DatasetConfig(samples=samples, features=["x"], task="multiclass")
    found = epoch_of(RootIterableDataset(config, batch_size=256, progress=False))
    for n in files:
        assert found["weight"][found["label"] == n].sum() == pytest.approx(150 * (2.0 + n))
    plain = [Sample(files=str(files[1]), weight={"cross_section": 3, "luminosity": 2})]
    found = RootIterableDataset(
        DatasetConfig(samples=plain, features=["x"]), batch_size=1000, progress=False
    )
    assert sum(batch["weight"].sum() for batch in found) == pytest.approx(6)


def test_a_cross_section_needs_a_luminosity():
    with pytest.raises(ValueError, match="go together"):
        Sample(files="a.root", weight={"cross_section": 3})


def test_the_composition_of_an_epoch_is_told(files, capsys):
    dataset_of(files, sampling={"balance": "under"}, progress=True)
    said = capsys.readouterr().err
    assert "an epoch of training has" in said
    assert "events of class 0 (there are" in said
