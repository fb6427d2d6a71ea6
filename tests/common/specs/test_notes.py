"""Leaks, repeated events and degenerate trainings are told; reports say what happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hepdata_adapters import DatasetConfig, compute_specs
from hepdata_adapters.cli.main import main
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.report import text as words
from hepdata_adapters.common.specs.diff import compare
from hepdata_adapters.common.specs.identities import SAMPLE, SMALLEST, Identities
from hepdata_adapters.common.specs.merge import merge_specs
from hepdata_adapters.common.specs.parallel import Workers
from hepdata_adapters.common.specs.separation import Drawn, area
from hepdata_adapters.common.specs.update import update_specs
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import describe
from hepdata_adapters.torch import RootIterableDataset


def write(path: Path, columns: dict[str, Any]) -> Path:
    with uproot.recreate(path) as file:
        types = {
            name: "var * float32" if isinstance(values, ak.Array) else values.dtype
            for name, values in columns.items()
        }
        file.mktree("Events", types)
        file["Events"].extend(columns)
    return path


def events(size: int, number: np.ndarray | None = None, seed: int = 0) -> dict[str, np.ndarray]:
    number = np.arange(size) if number is None else number
    return {
        "run": np.ones(size, np.uint32),
        "luminosityBlock": np.ones(size, np.uint32),
        "event": number.astype(np.uint64),
        "x": np.random.default_rng(seed).normal(size=size),
    }


def config(*files: Path, labels: Any = (), **options: Any) -> DatasetConfig:
    labels = labels or range(len(files))
    samples = [
        {"files": str(path), "label": float(label), "name": path.stem}
        for path, label in zip(files, labels, strict=True)
    ]
    return DatasetConfig.model_validate({"samples": samples, "features": ["x"]} | options)


def kinds(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {note.kind: note.counts for note in dataset.remarks}


# identity


def never_filled(size: int) -> dict[str, np.ndarray]:
    return events(size, np.zeros(size))


def test_an_identity_that_was_never_filled_is_refused_and_the_advice_works(tmp_path, monkeypatch):
    monkeypatch.setenv("HEPDATA_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path / "zero.root", never_filled(400))
    with pytest.raises(DataError, match="400 events have one identity") as error:
        RootIterableDataset(str(path), split="test", progress=False)
    assert "identity: entry" in str(error.value)
    sizes = {
        split: sum(
            len(batch["x"])
            for batch in RootIterableDataset(
                str(path), split=split, batch_size=64, progress=False,
                split_by={"identity": "entry"},
            )
        )
        for split in ("train", "validation", "test")
    }  # fmt: skip
    assert sum(sizes.values()) == 400
    assert 220 < sizes["train"] < 290
    document = {"samples": [{"files": str(path)}], "split": {"identity": "entry"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document | {"name": "m"}))
    loaded = load_config(tmp_path / "config.yaml")
    assert compute_specs(loaded).events("train") == sizes["train"]


def test_one_sample_that_was_never_filled_is_refused_beside_a_good_one(tmp_path):
    good = write(tmp_path / "good.root", events(3000))
    bad = write(tmp_path / "bad.root", never_filled(200))
    with pytest.raises(DataError, match=r"200 events have one identity.*bad\.root"):
        compute_specs(config(good, bad))


def test_small_files_that_were_never_filled_are_refused_together(tmp_path):
    files = [write(tmp_path / f"{n}.root", never_filled(5)) for n in range(8)]
    with pytest.raises(DataError, match="40 events have one identity"):
        compute_specs(config(*files, labels=[1] * 8))


def test_rows_of_one_event_may_be_listed_to_stay_together(tmp_path):
    path = write(tmp_path / "rows.root", events(400, np.arange(400) // 40))
    with pytest.raises(DataError, match="only 10 different identities"):
        compute_specs(config(path))
    kept = config(path, split={"identity": ["run", "luminosityBlock", "event"]})
    dataset = Dataset.prepare(kept)
    assert kinds(dataset)["events with the identity of others in a file"] == {str(path): 390}


def test_a_few_repeated_numbers_are_a_note_and_no_error(tmp_path):
    number = np.arange(500)
    number[490:] = 0
    path = write(tmp_path / "few.root", events(500, number))
    found = kinds(Dataset.prepare(config(path, labels=[1])))
    assert found["events with the identity of others in a file"] == {str(path): 10}


def test_the_same_events_in_two_samples_are_counted_and_new_numbers_are_not(tmp_path):
    one, two = events(300), events(200, seed=1)
    for name in two:
        two[name][:50] = one[name][:50]  # 50 copies, 150 with the same numbers only
    files = write(tmp_path / "one.root", one), write(tmp_path / "two.root", two)
    dataset = Dataset.prepare(config(*files))
    found = kinds(dataset)
    assert found["events that are in two files"] == {"two and one": 50}
    assert "events with the identity of others in another file" not in found
    (note,) = (n for n in dataset.remarks if n.kind == "events that are in two files")
    assert "nothing leaks from training into test" in note.text
    assert dataset.notes().count("events that are in two files") == 50


def test_a_split_by_files_tells_of_test_events_that_were_trained_on(tmp_path):
    one, two = events(300), events(200, np.arange(200) + 1000, seed=1)
    for name in two:
        two[name][:50] = one[name][:50]
    files = write(tmp_path / "one.root", one), write(tmp_path / "two.root", two)
    found = kinds(Dataset.prepare(config(*files, split={"files": {"test": "two.root"}})))
    assert found["validation and test events that are in training"] == {"": 50}


def test_numbers_that_begin_anew_in_each_file_are_told(tmp_path):
    files = [write(tmp_path / f"{n}.root", events(200, seed=n)) for n in range(2)]
    sample = {"files": list(map(str, files)), "label": 1, "name": "s"}
    dataset = Dataset.prepare(DatasetConfig.model_validate({"samples": [sample], "features": "*"}))
    assert kinds(dataset)["events with the identity of others in another file"] == {"s": 200}


def test_entry_numbers_keep_no_identities(tmp_path):
    path = write(tmp_path / "a.root", events(100))
    specs = compute_specs(config(path, split={"identity": "entry"}))
    assert specs.identities == ()
    assert specs.binding.files[0].distinct is None


def test_large_samples_are_estimated_in_bounded_memory_by_any_number_of_processes(tmp_path):
    one, two = events(20_000), events(10_000, seed=1)
    for name in two:
        two[name][:5000] = one[name][:5000]
    two["event"][5000:] += np.uint64(10**6)
    files = write(tmp_path / "one.root", one), write(tmp_path / "two.root", two)
    whole = compute_specs(config(*files))
    assert SAMPLE / 4 < len(whole.identities) < 2 * SAMPLE
    assert compute_specs(config(*files), processes=2) == whole
    # a sample does not know its number: the labels of the parts are those of the whole
    parts = [compute_specs(config(path, labels=[n])) for n, path in enumerate(files)]
    merged = merge_specs(parts)
    assert merged.identities == whole.identities
    assert update_specs(config(*files), parts[0]).identities == whole.identities
    assert update_specs(config(*files), parts[1], workers=Workers(1)).identities == (
        whole.identities
    )
    whole.save(tmp_path / "specs.json")
    assert type(whole).load(tmp_path / "specs.json") == whole
    for record, size in zip(whole.binding.files, (20_000, 10_000), strict=True):
        assert record.distinct == pytest.approx(size, rel=0.25)
    (count,) = kinds(Dataset.prepare(config(*files)))["events that are in two files"].values()
    assert count == pytest.approx(5000, rel=0.3)


def test_distinct_identities_are_exact_while_they_are_few():
    few = Identities(smallest=tuple(range(SMALLEST - 1)))
    assert few.joined(few).distinct == SMALLEST - 1


# leaks and degenerate trainings


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    random = np.random.default_rng(5)
    kind = np.arange(600) % 2
    return write(
        tmp_path / "Higgs.root",
        {
            "Type": kind.astype(np.int32),
            "target": kind.astype(np.int8),
            "genWeight": random.normal(size=600).astype(np.float32),
            "seen": np.where(kind == 1, 1.0, np.nan).astype(np.float32),
            "x": random.normal(kind, 1).astype(np.float32),
            "Jet_pt": ak.unflatten(random.exponential(size=300).astype(np.float32), kind),
        },
    )


def test_features_that_give_the_class_away_are_named_everywhere(labelled, capsys):
    document = {
        "samples": [{"files": str(labelled), "label": "Type"}],
        "task": "binary", "defaults": {"missing": "mean"},
    }  # fmt: skip
    dataset = Dataset.prepare(DatasetConfig.model_validate(document))
    found = kinds(dataset)
    assert found["features named like weights or truth"] == {"genWeight": 1}
    assert found["features named like a label"] == {"target": 1}
    alone = [n for n in dataset.remarks if n.kind == "features that separate the classes alone"]
    assert [list(note.counts) for note in alone] == [["target"], ["seen"], ["nJet_pt"], ["Jet_pt"]]
    assert "AUC 1.0000" in alone[0].text
    assert "exclude: [target]" in alone[0].text
    assert dataset.notes().count("features that separate the classes alone", "target") == 1
    said = "\n".join(describe(dataset))
    assert alone[0].text in said
    assert "features: target, genWeight, seen, x, nJet_pt, Jet_pt" in said
    path = labelled.with_name("config.yaml")
    path.write_text(yaml.safe_dump(document))
    assert main(["validate", str(path)]) == 0
    assert alone[0].text in capsys.readouterr().out


def test_the_class_in_one_sample_is_the_label_of_the_other(labelled, tmp_path):
    """Relabelled, the specs are of the same data, but what they say of classes is not."""
    one = write(tmp_path / "one.root", events(100) | {"x": np.arange(100.0)})
    two = write(tmp_path / "two.root", events(100) | {"x": np.arange(100.0) + 1000})
    first = Dataset.prepare(config(one, two))
    assert kinds(first)["features that separate the classes alone"] == {"x": 1}
    other = config(one, two, labels=[1, 1])
    assert kinds(Dataset.prepare(other, specs=first.specs)).keys() >= {"notes that need new specs"}
    assert "training events of one class only" in kinds(Dataset.prepare(other))


def test_one_class_only_is_told(tmp_path):
    path = write(tmp_path / "a.root", events(200))
    dataset = Dataset.prepare(config(path, labels=[1]))
    train = dataset.specs.events("train")
    assert kinds(dataset)["training events of one class only"] == {"class 1": train}


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.5, 20.0])
def test_the_area_is_that_of_scikit_learn(shift):
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(3)
    low, high = random.normal(0, 1, 4000), random.normal(shift, 1, 1500)
    drawn = Drawn(["x"], units=4)
    for label, values in (("0", low), ("1", high)):
        for part in np.array_split(values, 4):
            drawn.add(label, {"x": part}, np.arange(len(part)))
    shapes = drawn.shapes()
    truth = roc_auc_score([0] * 4000 + [1] * 1500, np.concatenate([low, high]))
    found = area([shapes["0"]["x"]], [shapes["1"]["x"]])
    assert found == pytest.approx(max(truth, 1 - truth), abs=0.025 if shift < 1 else 0.003)


def test_an_event_has_the_first_value_and_no_value_is_below_all():
    drawn = Drawn(["pt"], units=1)
    column = Jagged.from_lists([[5.0, 1.0], [], [np.nan, 9.0]])
    drawn.add("1", {"pt": column}, np.arange(3))
    shape = drawn.shapes()["1"]["pt"]
    assert shape.means == ((5.0, 1.0),)
    assert shape.missing == 2.0


# what is reported is what happened


def test_objects_that_a_cut_removes_are_in_the_ledger_of_every_delivery(tmp_path):
    counts = np.arange(300) % 5
    pt = np.arange(counts.sum()) % 50
    jets = ak.unflatten(pt.astype(np.float32), counts)
    columns = events(300) | {"Jet_pt": jets}
    path = write(tmp_path / "jets.root", columns)
    document = config(
        path, labels=[1], features=["x", "Jet_pt"], objects={"Jet": {"selection": "Jet_pt > 30"}}
    )
    dataset = Dataset.prepare(document)
    place = "Jet: Jet_pt > 30"
    truth = len(pt), int((pt <= 30).sum())
    for workers in (0, 2):
        loaded = RootIterableDataset(dataset, batch_size=64)
        delivered = sum(len(batch["x"]) for batch in loaded.loader(num_workers=workers))
        assert delivered == 300
        ledger = loaded.ledger
        kinds_of = "objects read", "objects removed by a cut"
        assert tuple(ledger.count(kind, place) for kind in kinds_of) == truth
    with EventStream(dataset, "train") as stream:
        batch = next(iter(EpochOptions(64, shuffle=False, seed=0).epoch().batches(stream, None)))
    assert not [name for name in batch if "#" in name or name in ("objects", "counts")]


def test_what_drop_leaves_out_is_in_the_report_and_in_the_drift(tmp_path):
    clean, dirty = events(1000), events(1000)
    dirty["x"][:10] = np.nan
    dirty["y"], clean["y"] = dirty["x"].copy(), np.zeros(1000)
    dirty["y"][20:40] = np.inf
    features = [{"branch": name, "missing": "drop"} for name in ("x", "y")]
    before, after = (
        compute_specs(config(write(tmp_path / name, columns), labels=[1], features=features))
        for name, columns in (("a.root", clean), ("b.root", dirty))
    )
    found = {drift.branch: drift for drift in compare(before, after).drifts}
    assert (found["x"].before.nan_share, found["x"].after.nan_share) == (0.0, 0.01)
    assert found["y"].after.nan_share == 0.03  # 10 of which x left out first
    assert after.left_out("NaN or infinity in y") == (30, 1000)
    dataset = Dataset.prepare(config(tmp_path / "b.root", labels=[1], features=features))
    made = dataset.transform.features[0]
    assert words.missing(made, dropped=after.left_out("NaN or infinity in x")) == (
        "events with NaN or infinity are left out: 10 of 1,000 selected events (1.0 %)"
    )


def test_validate_counts_each_class_in_each_split_with_its_weights(tmp_path, capsys):
    kind = np.arange(300) % 3 == 0
    weight = np.where(kind, 2.0, -1.0)
    path = write(tmp_path / "a.root", events(300) | {"kind": kind, "w": weight})
    document = {
        "samples": [{"files": str(path), "label": "kind", "name": "all",
                     "weight": {"branch": "w", "constant": 0.5}}],
        "features": ["x"],
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    assert main(["validate", str(tmp_path / "config.yaml")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {(row[1], row[2]): (int(row[3]), float(row[4])) for row in lines
            if len(row) == 5 and row[0] == "all"}  # fmt: skip
    codes = {}
    dataset = Dataset.prepare(DatasetConfig.model_validate(document))
    for split in ("train", "validation", "test"):
        with EventStream(dataset, split) as stream:
            for batch in EpochOptions(64, shuffle=False, seed=0).epoch().batches(stream, None):
                for label, value in zip(batch["label"], batch["weight"], strict=True):
                    label = str(int(label))  # float32 for two classes
                    n, total = codes.get((label, split), (0, 0.0))
                    codes[label, split] = n + 1, total + value
    assert rows == codes
    assert sum(n for n, _ in rows.values()) == 300
    assert main(["validate", str(tmp_path / "config.yaml"), "--quick"]) == 0
    assert "sum of weights" not in capsys.readouterr().out
