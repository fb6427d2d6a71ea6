"""Exported ONNX folders are complete, predict as the model, and are refused when damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from examples.tth.model import model as tth_model
from hepdata_adapters.common.core.columns import take_all
from hepdata_adapters.common.core.errors import ConfigError, EventError, MissingExtraError
from hepdata_adapters.common.inference.input_files import raw_events, scan_inputs
from hepdata_adapters.common.inference.padded_inputs import dense_inputs, input_names
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns
from hepdata_adapters.torch import RootIterableDataset
from hepdata_adapters.torch.training.event_module import Scorer
from hepdata_serving.answers import predict_events
from hepdata_serving.errors import ArchiveError, ExportError
from hepdata_serving.integrity import sums_text
from hepdata_serving.onnx import export as onnx_export
from hepdata_serving.onnx import runtime
from hepdata_serving.onnx.graph import graph_inputs
from hepdata_serving.onnx.runtime import OnnxModel
from tests.conftest import EXAMPLES
from tests.helpers.onnx_folders import export, exported_model
from tests.helpers.torchserve_example import ExampleScorer, eager, example_events, example_transform


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory)


@pytest.fixture
def same_graph(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds of making a graph that this test does not look at."""
    data = (exported / "model.onnx").read_bytes()
    monkeypatch.setattr(onnx_export, "save_graph", lambda scorer, transform: data)


# --- the folder --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 7, 50])
def test_folder_predicts_as_the_model(exported: Path, n: int) -> None:
    events = example_events(n, seed=3)
    transform = example_transform()
    offline = predict_events(events, transform, eager(ExampleScorer(transform.num_features)))
    np.testing.assert_allclose(OnnxModel(exported).predict(events), offline, rtol=0, atol=1e-6)


def test_none_and_nan_are_the_same_missing_value(exported: Path) -> None:
    model, missing = OnnxModel(exported), []
    for value in (None, float("nan")):
        events = example_events(2, seed=1)
        events[1] |= {"MET": value, "Jet_pt": [value, 30.0]}
        missing.append(model.predict(events))
    assert missing[0] == missing[1]


def test_folder_is_complete_and_described(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "README.md", "SHA256SUMS", "golden.json", "metadata.json", "model.onnx", "transform.json",
    }  # fmt: skip
    about = json.loads((exported / "metadata.json").read_text())
    assert about["outputs"] == ["signal"]
    assert about["features"] == example_transform().feature_names
    assert [path.name for path in exported.parent.iterdir()] == ["example"]


def test_graph_names_its_inputs_and_nothing_of_this_machine(exported: Path) -> None:
    data = (exported / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(data)
    expected = [(given.name, list(given.shape)) for given in graph_inputs(example_transform())]
    assert [(given.name, given.shape) for given in session.get_inputs()] == expected
    assert [(out.name, out.shape) for out in session.get_outputs()] == [
        ("score", ["events"]),
        ("valid", ["events"]),
    ]
    for path in {sys.prefix, str(Path.cwd()), str(Path(torch.__file__).parent)}:
        assert os.fsencode(path) not in data


def test_readme_is_right(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported)
    ours, theirs = [
        part.partition("```")[0] for part in Path("README.md").read_text().split("```python\n")[1:]
    ]
    transform = example_transform()
    columns, _ = columns_from_events(example_events(2), transform)
    names: dict[str, Any] = {"inputs": dense_inputs(columns, transform)}
    exec(ours.replace("model.predict", "found = model.predict") + theirs, names)
    assert len(names["found"]) == 1
    assert names["score"].shape == names["valid"].shape == (2,)


def test_real_events_of_three_classes(tmp_path: Path) -> None:
    files = {
        f"{EXAMPLES}/{name}_0.root:Events": i for i, name in enumerate(["tth", "ttbar", "qcd"])
    }
    transform = RootIterableDataset(files, batch_size=64).prepared.transform
    net = torch.nn.Sequential(tth_model(transform.num_features), torch.nn.Linear(1, 3))
    scorer = Scorer(net, "multiclass").eval()
    found = next(raw_events(scan_inputs(list(files), transform), list(input_names(transform))))
    events = events_from_columns(take_all(found.columns, np.arange(200)))
    offline = predict_events(events, transform, eager(scorer))
    folder = export(
        tmp_path,
        scorer=scorer,
        transform=transform,
        task="multiclass",
        outputs=["tth", "ttbar", "qcd"],
        golden_events=events[:20],
        golden_predictions=offline[:20],
    )
    predicted = OnnxModel(folder).predict(events)
    assert np.shape(predicted) == (200, 3)
    np.testing.assert_allclose(predicted, offline, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("same_graph")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "../up"}, ConfigError, "not allowed"),
        ({"task": "ranking"}, ConfigError, "not one of"),
        ({"golden_events": [], "golden_predictions": []}, ConfigError, "golden_events is empty"),
        ({"metadata": {"path": Path("x")}}, ConfigError, "is not JSON"),
        ({"golden_predictions": [0.123] * 8}, ExportError, "golden event 0: the model predicts"),
        (
            {"golden_events": [{}], "golden_predictions": [0.5]},
            ExportError,
            "event 0: branch 'MET' is missing",
        ),
        ({"task": "multiclass", "outputs": ["a", "b"]}, ExportError, r"not float32 \(1, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("same_graph")
def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    folder = export(tmp_path)
    with pytest.raises(ExportError):
        export(tmp_path, golden_predictions=[0.123] * 8)
    export(tmp_path, metadata={"auc": 0.95})
    assert json.loads((folder / "metadata.json").read_text())["metadata"] == {"auc": 0.95}
    assert [path.name for path in tmp_path.iterdir()] == ["example"]
    (folder / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="is not an exported ONNX model"):
        export(tmp_path)
    assert (folder / "thesis.tex").read_text() == "mine"


def test_packages_that_are_missing_are_named(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for use in (lambda: OnnxModel(exported), lambda: export(tmp_path)):
        with pytest.raises(MissingExtraError, match=r"pip install \"hepdata-adapters\[onnx\]\""):
            use()


# --- the runtime -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Lep_eta": [1.0, float("nan")]}, "event 1: Lep_eta holds NaN or infinity"),
        ({"Lep_eta": [1.0, 2.0, 3.0]}, "event 1: Lep_eta has 3 values, at most 2 fit"),
        ({"HT": 1e300}, "event 1: HT is too large for float32"),
        ({"nJet": None}, "event 1: branch 'nJet' takes integers, not null"),
        ({"nJet": float("nan")}, "event 1: branch 'nJet' takes integers, not NaN"),
        ({"trigger": None}, "event 1: branch 'trigger' takes true or false, not null"),
        ({"nJet": "3"}, "event 1: branch 'nJet' takes numbers, not a string"),
    ],
)
def test_bad_events_are_named(exported: Path, change: dict[str, Any], message: str) -> None:
    events = example_events(3)
    events[1] |= change
    with pytest.raises(EventError, match=message):
        OnnxModel(exported).predict(events)


def test_long_events_are_run_in_small_parts(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, events = OnnxModel(exported), example_events(40)
    whole = model.predict(events)
    monkeypatch.setattr(runtime, "MAX_VALUES", 100)
    np.testing.assert_allclose(model.predict(events), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model.onnx", lambda data: data[: len(data) // 2], "cannot load model.onnx"),
        ("golden.json", lambda data: b"[" * 100_000, "golden.json is nested more than 64 levels"),
        ("transform.json", lambda data: data.replace(b'"int32"', b'"int64"'), "cannot be run on"),
        ("transform.json", lambda data: b"{}", "is not an exported ONNX model"),
        ("golden.json", lambda data: b"[]", "is not an exported ONNX model"),
        ("golden.json", lambda data: data.replace(b"0.", b"0.9"), "the model predicts"),
        (
            "transform.json",
            lambda data: data.replace(b'"error"', b'"truncate"'),
            "the graph refuses event 0",
        ),
    ],
)
def test_a_damaged_folder_is_not_loaded(
    exported: Path, tmp_path: Path, file: str, change: Any, message: str
) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).write_bytes(change((exported / file).read_bytes()))
    with pytest.raises(ArchiveError, match=f"{file} is not the file that was exported"):
        OnnxModel(tmp_path)
    sums = sums_text({name: (tmp_path / name).read_bytes() for name in runtime.FILES})
    (tmp_path / "SHA256SUMS").write_text(sums)
    overlong = example_events(1)[0] | {"Lep_eta": [1.0, 2.0, 3.0]}
    with pytest.raises(ArchiveError, match=message):
        OnnxModel(tmp_path).predict([overlong])


def test_no_flipped_bit_is_served(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path, dirs_exist_ok=True)
    random = np.random.default_rng(25)
    for number in range(200):
        name = "model.onnx" if number < 150 else [*runtime.FILES, "SHA256SUMS"][number % 5]
        kept = (tmp_path / name).read_bytes()
        flipped = bytearray(kept)
        flipped[random.integers(len(kept))] ^= 1 << int(random.integers(8))
        (tmp_path / name).write_bytes(flipped)
        with pytest.raises(ArchiveError):
            OnnxModel(tmp_path)
        (tmp_path / name).write_bytes(kept)
    OnnxModel(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    with pytest.raises(ArchiveError, match="SHA256SUMS is missing: export the model again"):
        OnnxModel(tmp_path)


def test_a_model_runs_where_torch_is_not(exported: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; "
        "from hepdata_serving.onnx.runtime import OnnxModel; OnnxModel(sys.argv[1])"
    )
    search = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    environment = os.environ | {"PYTHONPATH": search}
    subprocess.run([sys.executable, "-c", code, str(exported)], env=environment, check=True)
