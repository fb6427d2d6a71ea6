"""What new users get wrong: one message each, and what it says to write works as it stands."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hepdata_adapters.cli.validate import checked
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.config.plain_yaml import read_yaml
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream

SIZE = 120
Document = dict[str, Any]
Fix = Callable[[Document, str], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with all that stands in the way of a training."""
    folder = tmp_path_factory.mktemp("foreign")
    number = np.arange(SIZE)
    some = np.where(number % 20 == 7, np.nan, number).astype(np.float32)
    lengths = number % 4
    pt = (np.arange(lengths.sum()) % 50 + 1).astype(np.float32)
    columns = {
        "x": number.astype(np.float32),
        "MET": some,
        "none": np.full(SIZE, np.nan, np.float32),
        "low": (number - 50).astype(np.float32),
        "large": number.astype(np.int64) * 10**9,
        "n": (number % 5).astype(np.int32),
        "label": (number % 2).astype(np.int32),
        "part": (number % 3).astype(np.int32),
        "Jet_px": ak.unflatten(pt, lengths),
        "Jet_eta": ak.unflatten(np.where(pt == 9, np.nan, pt), lengths),
    }
    write(folder / "a.root", columns)
    write(folder / "b.root", columns | {"x": columns["x"][::-1].copy()})
    write(folder / "other.root", {k: v for k, v in columns.items() if k not in ("n", "low")})
    # a name that says 10 values where there is one
    write(folder / "liar.root", columns | {"lies[2]": columns["n"], "lies[3]": columns["n"]})
    with uproot.recreate(folder / "tuple.root") as file:
        file["Events"] = {"x": columns["x"], "hits[10]": columns["n"]}
    (folder / "files.txt").write_text("a.root\nb.root\n")
    with uproot.recreate(folder / "trees.root") as file:
        for name in ("Events", "Runs"):
            file.mktree(name, {"x": "float32"})
            file[name].extend({"x": columns["x"]})
    return folder


def write(path: Path, columns: dict[str, Any]) -> None:
    with uproot.recreate(path) as file:
        file.mktree("Events", {
            name: f"var * {values.type.content.content}" if isinstance(values, ak.Array)
            else values.dtype for name, values in columns.items()
        })  # fmt: skip
        file["Events"].extend(columns)


# how the advice of a message is followed


def put(**keys: Any) -> Fix:
    """Set these keys of the config, as the message says in words."""
    return lambda document, message: document.update(copy.deepcopy(keys))


def sample(**keys: Any) -> Fix:
    return lambda document, message: document["samples"][0].update(keys)


def paste(start: str, where: Callable[[Document, Any], None]) -> Fix:
    """Take the YAML that follows ``start`` in the message, to where it belongs."""

    def fix(document: Document, message: str) -> None:
        text = message.split(start, 1)[1]
        brackets = re.match(r"[^\[{]*?[\[{]", text)
        if brackets is None:
            return where(document, read_yaml(text))
        depth, stop = 0, len(text)
        for place, character in enumerate(text):
            depth += (character in "[{") - (character in "]}")
            if depth == 0 and character in "]}" and not text[place + 1 :].startswith(", {"):
                stop = place + 1
                break
        where(document, read_yaml(text[:stop] if ": " in brackets[0] else f"[{text[:stop]}]"))
        return None

    return fix


def config(document: Document, lines: Any) -> None:
    document.update(lines)


def features(document: Document, lines: Any) -> None:
    named = {line["branch"]: line for line in lines}
    document["features"] = [
        named.get(f if isinstance(f, str) else f["branch"], f) for f in document["features"]
    ]


def jets(document: Document, lines: Any) -> None:
    features(document["inputs"]["jets"], lines)


def cut(document: Document, lines: Any) -> None:
    document["objects"]["Jet"].update(lines)


def without(key: str) -> Fix:
    return lambda document, message: document.pop(key)


JETS = {"jets": {"kind": "set", "features": ["Jet_px", "Jet_eta"]}}
EXCLUDE = paste("out with ", config)
WRONG: dict[str, tuple[Document, list[str], Fix]] = {
    "NaN in a listed feature": (
        {"features": ["x", "MET"]},
        ["'MET' holds NaN or infinity (6 in ", "a.root", "{branch: MET, missing: median}"],
        paste("write under features: ", features),
    ),
    "several features, several reasons": (
        {"features": ["MET", "none", {"branch": "Jet_px", "length": 1, "overflow": "error"}]},
        ["'MET' holds", "'none' holds", "{branch: none, missing: 0}", "up to 3 values",
         "{branch: Jet_px, length: 1.0, overflow: truncate}"],
        paste("write under features: ", features),
    ),
    "a pattern of features": (
        {"features": ["x", "Jet_*"]},
        ["'Jet_eta' holds NaN", "{branch: Jet_*, missing: median}"],
        paste("write under features: ", features),
    ),
    "no mean of nothing": (
        {"features": ["x", {"branch": "none", "missing": "mean"}]},
        ["'none' has no finite value", "{branch: none, missing: 0}"],
        paste("write under features: ", features),
    ),
    "all features, NaN refused": (
        {"features": "*", "defaults": {"missing": "error"}},
        ["'MET' holds NaN", "'Jet_eta' holds NaN", "defaults: {missing: median}",
         "exclude: [MET, Jet_eta]"],
        EXCLUDE,
    ),
    "all features, NaN refused, the other way": (
        {"features": "*", "defaults": {"missing": "error"}},
        ["defaults: {missing: median}"],
        put(defaults={"missing": "median"}),
    ),
    "all features, logarithms": (
        {"features": "*", "defaults": {"scaling": "log"}},
        ["'x' goes down to 0", "'low' goes down to -", "log takes values above 0",
         "exclude: [x, "],
        EXCLUDE,
    ),
    "all features, unscaled integers": (
        {"features": "*", "defaults": {"scaling": "none"}},
        ["'large' reaches", "exclude: [large]"],
        EXCLUDE,
    ),
    "logarithms of listed features": (
        {"features": [{"branch": "low", "scaling": "log"}, {"branch": "x", "scaling": "log"}]},
        ["'low' goes down to", "'x' goes down to", "{branch: low, scaling: asinh}"],
        paste("write under features: ", features),
    ),
    "features that are not there": (
        {"features": ["x", "Met", "lov"]},
        ["no branch 'Met'; did you mean 'MET'", "no branch 'lov'; did you mean 'low'"],
        put(features=["x", "low"]),
    ),
    "an exclusion that is misspelt": (
        {"samples": [{"files": "tuple.root", "label": 1}], "exclude": ["hitz[10]"]},
        ["no branch matches 'hitz[10]'; did you mean 'hits[10]'"],
        put(exclude=["hits[10]"]),
    ),
    "branches that cannot be read": (
        {"samples": [{"files": "liar.root", "label": 1}]},
        ["2 of 14 branches cannot be read", "basket 0 has 60 entries", "liar.root",
         "exclude: ['lies[2]', 'lies[3]']"],
        paste("of all that there are: ", config),
    ),
    "nothing left": (
        {"features": "*", "exclude": ["*"]},
        ["no features are left of the 12 branches of ", "a.root:Events", "excluded by the config"],
        without("exclude"),
    ),
    "a derived column in a cut on objects": (
        {"features": ["Jet_pt"], "columns": {"Jet_pt": "abs(Jet_px)"},
         "objects": {"Jet": {"branches": ["Jet_px"], "selection": "Jet_pt > 10"}}},
        ["objects.Jet.selection: ", "cannot use 'Jet_pt'", "(abs(Jet_px)) > 10"],
        paste("Write: ", cut),
    ),
    "a label that is misspelt": (
        {"samples": [{"files": "a.root", "label": "nn > 2"}], "features": ["x"]},
        ["no branch 'nn'; did you mean 'none' or 'n'"],
        sample(label="n > 2"),
    ),
    "a label of each object": (
        {"samples": [{"files": "a.root", "label": "Jet_px > 10"}], "features": ["x"]},
        ["one number an event, this is bool[]", "any("],
        sample(label="any(Jet_px > 10)"),
    ),
    "a label branch without a task": (
        {"samples": [{"files": "a.root", "label": "label"}], "features": ["x"]},
        ["label branch 'label' is int32", "set task to binary"],
        put(task="binary"),
    ),
    "a sample without a label": (
        {"samples": [{"files": "a.root", "label": 1}, {"files": "b.root"}], "features": ["x"]},
        ["without a label", "b.root"],
        lambda document, message: document["samples"][1].update(label=0),
    ),
    "files with other branches": (
        {"samples": [{"files": "a.root", "label": 1}, {"files": "other.root", "label": 0}]},
        ["a.root:Events has low, which ", "other.root:Events has not", "exclude: [low, n]"],
        paste("out what differs: ", config),
    ),
    "several trees": (
        {"samples": [{"files": "trees.root", "label": 1}, {"files": "b.root", "label": 0}],
         "features": ["x"]},
        ["which tree? there are: Events, Runs", "FILE:TREE"],
        sample(files="trees.root:Events"),
    ),
    "a tree that is misspelt": (
        {"samples": [{"files": "a.root:Evnts", "label": 1}], "features": ["x"]},
        ["no tree 'Evnts'; did you mean 'Events'"],
        sample(files="a.root:Events"),
    ),
    "no file of this name": (
        {"samples": [{"files": "c*.root", "label": 1}], "features": ["x"]},
        ["no file matches this pattern", "c*.root"],
        sample(files="a*.root"),
    ),
    "a folder": (
        {"samples": [{"files": ".", "label": 1}], "features": ["x"]},
        ["this is a folder: write its files, as ", "/*.root"],
        sample(files="[ab].root"),
    ),
    "braces of a shell": (
        {"samples": [{"files": "{a,b}.root", "label": 1}], "features": ["x"]},
        ["no such file; braces are the shell's", "a pattern with *, ? or [12]"],
        sample(files="[ab].root"),
    ),
    "a list of files": (
        {"samples": [{"files": "files.txt", "label": 1}], "features": ["x"]},
        ["not a ROOT file; a list of files is a YAML list", "files.txt"],
        sample(files=["a.root", "b.root"]),
    ),
    "a variable that the environment has not": (
        {"samples": [{"files": "$NO_SUCH_FOLDER/a.root", "label": 1}], "features": ["x"]},
        ["no such file; the environment has no such variable"],
        sample(files="$FOREIGN_FOLDER/a.root"),
    ),
    "a pattern for a server without folders": (
        {"samples": [{"files": "http://localhost:1/*.root", "label": 1}], "features": ["x"]},
        ["http has no such thing: name each file"],
        sample(files="a.root"),
    ),
    "a key that is misspelt": (
        {"features": ["x"], "trainning": {"epochs": 2}},
        ["unknown key 'trainning'; did you mean 'training'"],
        lambda document, message: document.update(training=document.pop("trainning")),
    ),
    "proportions of nothing": (
        {"features": ["x"], "sampling": {"proportions": {0: 0.5, 1: 0.5}}},
        ["proportions need balance: over, under or weights"],
        lambda document, message: document["sampling"].update(balance="under"),
    ),
    "a selection that nothing passes": (
        {"samples": [{"files": "a.root", "label": 1, "selection": "x > 500"}], "features": ["x"]},
        ["no event passes the selection 'x > 500': change it"],
        sample(selection="x > 5"),
    ),
    "events dropped for a branch of nothing": (
        {"features": ["x", {"branch": "none", "missing": "drop"}]},
        ["all events are left out, for NaN or infinity in none (240 events)",
         "another policy than drop"],
        put(features=["x", {"branch": "none", "missing": 0}]),
    ),
    "a class that no training event has": (
        {"samples": [{"files": "a.root", "label": "n"}], "features": ["x"], "task": "multiclass",
         "split": {"branch": "n", "values": {"train": [0, 1, 2], "validation": 3, "test": 4}}},
        ["validation events of class 3 in n", "test events of class 4 in n", "above 2",
         "selection: n <= 2 in sample a.root"],
        sample(selection="n <= 2"),
    ),
    "a class that a binary task has not": (
        {"samples": [{"files": "a.root", "label": "n", "selection": "x > 3"}],
         "features": ["x"], "task": "binary"},
        ["task: binary has no class above 1", "selection: (x > 3) & n <= 1 in sample a.root"],
        sample(selection="(x > 3) & n <= 1"),
    ),
    "NaN in a set": (
        {"features": ["x"], "inputs": JETS},
        ["'Jet_eta' holds NaN", "inputs.jets.features: {branch: Jet_eta, missing: median}"],
        paste("write under inputs.jets.features: ", jets),
    ),
    "too many objects for a set": (
        {"features": ["x"], "inputs": {"jets": {
            "kind": "set", "features": ["Jet_px"], "length": 2, "overflow": "error"}}},
        ["has up to 3 objects in training", "inputs.jets.overflow: truncate"],
        lambda document, message: document["inputs"]["jets"].update(overflow="truncate"),
    ),
    "a split that is no whole": (
        {"features": ["x"], "split": {"train": 0.5}},
        ["train + validation + test must be 1"],
        put(split={"train": 0.5, "validation": 0.3, "test": 0.2}),
    ),
    "a value of the branch of a split that is not listed": (
        {"features": ["x"], "split": {"branch": "part", "values": {"train": 0, "test": 1}}},
        ["part", "2"],
        put(split={"branch": "part", "values": {"train": 0, "test": 1, "validation": 2}}),
    ),
}  # fmt: skip


def document_of(changes: Document) -> Document:
    samples = [{"files": "a.root", "label": 1}, {"files": "b.root", "label": 0}]
    return {"samples": samples, **copy.deepcopy(changes)}


def check(folder: Path, document: Document) -> Dataset:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return checked(load_config(path))


@pytest.mark.parametrize("name", WRONG)
def test_advice_that_is_followed_works(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREIGN_FOLDER", str(folder))
    changes, said, fix = WRONG[name]
    document = document_of(changes)
    with pytest.raises(HepDataError) as caught:
        check(folder, document)
    message = str(caught.value)
    for fragment in said:
        assert fragment in message
    fix(document, message)
    deliver(check(folder, document))


def deliver(dataset: Dataset) -> None:
    """Every event of every split, so that nothing is refused on the way."""
    with EventStream(dataset, None) as stream:
        batches = list(EpochOptions(1000, shuffle=False, seed=0).epoch().batches(stream, None))
    assert sum(len(batch["event"]) for batch in batches) == dataset.specs.events()
    assert all(np.isfinite(batch["x"]).all() for batch in batches)


def test_a_root_file_is_no_config(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(folder / "a.root")
    line = re.search(r"samples: \[.*?\]", str(caught.value))
    assert line is not None
    document = read_yaml(line[0].replace("BRANCH", "label")) | {"task": "binary"}
    assert check(folder, document).layout.task == "binary"


@pytest.mark.parametrize("written", ["1e-3", "1E-3", ".1e-2", "0.001", "1_0e-4"])
def test_numbers_are_numbers_wherever_they_stand(folder: Path, written: str) -> None:
    path = folder / "numbers.yaml"
    path.write_text(
        f"samples: [{{files: a.root, label: {written}, weight: {written}}}]\n"
        f"task: regression\n"
        f"features: [{{branch: x, missing: {written}, clip: [{written}, inf],\n"
        f"  scaling: {{center: {written}, scale: {written}}}}}]\n"
        f"defaults: {{length: {written}, missing: {written}, pad: {written}}}\n"
        f"split: {{train: {written}, validation: {written}, test: 0.998}}\n"
        f"training: {{learning_rate: {written}, weight_decay: {written}}}\n"
    )
    config = load_config(path, [f"model.dropout={written}", "training.batch_size=1_000"])
    (given,), (feature,) = config.samples, config.features
    assert not isinstance(feature, str)
    found = [
        given.label, given.weight.constant, feature.missing, feature.clip[0],
        feature.scaling.center, feature.scaling.scale, config.defaults.length,
        config.defaults.missing, config.defaults.pad, config.split.train,
        config.split.validation, config.training.learning_rate, config.training.weight_decay,
        config.model.dropout,
    ]  # fmt: skip
    assert found == [0.001] * len(found)
    assert (given.weight.branch, feature.clip[1]) == (None, None)
    assert config.training.batch_size == 1000


def test_errors_keep_their_place(folder: Path) -> None:
    """The event of a NaN, for programs too: through a stream of features that are listed."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document_of({"features": ["MET"]})))
    dataset = Dataset.prepare(load_config(path))
    with EventStream(dataset, None) as stream, pytest.raises(HepDataError) as caught:
        list(EpochOptions(1000, shuffle=False, seed=0).epoch().batches(stream, None))
    error: Any = caught.value
    assert (error.kind, error.branch, error.tree, error.entries) == (
        "missing", "MET", "Events", (7, 8),
    )  # fmt: skip
    assert error.file.endswith("a.root")
