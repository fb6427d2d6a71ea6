"""The transform as an nn.Module, and ONNX graphs on raw events, against the numpy reference."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import onnxruntime
import pytest
import requests
import torch
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.tth.model import model as tth_model
from hepdata_adapters.common.core.columns import Column, Jagged, take_all
from hepdata_adapters.common.core.errors import (
    ConfigError,
    DataError,
    EventError,
    MissingExtraError,
)
from hepdata_adapters.common.files.preparation import Preparation, RawBranch
from hepdata_adapters.common.files.shared_counts import SharedCount
from hepdata_adapters.common.inference.input_files import raw_events, scan_inputs
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs, input_names
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
from hepdata_adapters.torch import RootIterableDataset
from hepdata_adapters.torch.training.event_module import Scorer
from hepdata_adapters.torch.transform.event_transform import EventTransform
from hepdata_serving import client
from hepdata_serving.answers import answer_batch, predict_events
from hepdata_serving.errors import ArchiveError, ExportError
from hepdata_serving.integrity import sums_text
from hepdata_serving.onnx import export as onnx_export
from hepdata_serving.onnx import runtime
from hepdata_serving.onnx.graph import graph_inputs, save_graph, traced_model
from hepdata_serving.onnx.predict import predict_onnx
from hepdata_serving.onnx.runtime import Graph, OnnxModel
from tests.conftest import EXAMPLES
from tests.exporters import export_onnx
from tests.torchserve_example import ExampleScorer, eager, example_events, example_transform

DTYPES = [
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *(f"float{bits}" for bits in (16, 32, 64)),
]


def all_kinds() -> Transform:
    """Each dtype as a flat, an array and a jagged branch, with both policies of the floats."""
    features = []
    for number, dtype in enumerate(DTYPES):
        floats = dtype.startswith("float")
        scaled: dict[str, Any] = {"dtype": dtype, "center": 0.1 + number, "factor": 1 / 3}
        filled = scaled | {"missing": 0.7}
        features += [
            FeatureTransform(branch=f"flat.{dtype}", kind="flat", width=1, **scaled),
            FeatureTransform(branch=f"array.{dtype}", kind="array", width=2, **filled),
            FeatureTransform(
                branch=f"list.{dtype}", kind="jagged", width=2,
                **(filled if floats and number % 2 else scaled),
                overflow="error" if dtype in ("int16", "float32") else "truncate",
            ),
        ]  # fmt: skip
    return Transform.of_vector(VectorTransform(features=tuple(features)))


ALL_KINDS = all_kinds()


def values_of(dtype: str, shape: Any, rng: np.random.Generator) -> Any:
    """Any bits of this dtype; of floats, few that no event may have without a fill value."""
    kind = np.dtype(dtype)
    bits = bytearray(rng.bytes(int(np.prod(shape)) * kind.itemsize))
    values = np.frombuffer(bits, kind).reshape(shape)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind != "f":
        return values
    usual = rng.normal(scale=100, size=shape).astype(kind)
    rare = rng.choice([np.nan, np.inf, -np.inf, np.finfo(kind).max], shape).astype(kind)
    odds = rng.random(shape)
    # any bits, but no scaled value that is too large for float32
    limit = min(1e30, float(np.finfo(kind).max))
    small = np.where(np.abs(values) < limit, values, np.zeros_like(values))
    return np.where(odds < 0.02, rare, np.where(odds < 0.5, small, usual))


def columns_of(transform: Transform, n: int, seed: int) -> dict[str, Column]:
    """n events with NaN, infinities, integers beyond 2^53, empty and long lists."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Column] = {}
    for feature in transform.features:
        shape = {"flat": (n,), "array": (n, feature.width)}.get(feature.kind)
        if shape is None:
            lengths = rng.choice(5, n, p=[0.3, 0.3, 0.3, 0.05, 0.05])
            offsets = np.cumsum([0, *lengths], dtype=np.int64)
            content = values_of(feature.dtype, (offsets[-1],), rng)
            columns[feature.branch] = Jagged(content, offsets)
        else:
            columns[feature.branch] = values_of(feature.dtype, shape, rng)
    return columns


EVENTS = given(n=st.integers(0, 9), seed=st.integers(0, 2**32))


def with_garbage(inputs: dict[str, Any], transform: Transform) -> dict[str, Any]:
    """The same events, padded wider with what must not be looked at."""
    changed = dict(inputs)
    for feature in transform.jagged:
        name = input_names(transform)[feature.branch]
        values, lengths = inputs[name], inputs[name + LENGTH]
        garbage = np.nan if values.dtype.kind == "f" else 1
        wide = np.full((len(values), values.shape[1] + 3), garbage, values.dtype)
        inside = np.arange(values.shape[1]) < lengths[:, None]
        wide[:, : values.shape[1]][inside] = values[inside]
        changed[name] = wide
    return changed


def good_rows(columns: dict[str, Column], transform: Transform) -> Any:
    n = len(next(iter(columns.values())))
    return np.setdiff1d(np.arange(n), [fault.row for fault in transform.faults(columns)])


def tensors(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


# --- the transform as a module ---------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@EVENTS
def test_module_agrees_with_numpy_to_the_bit(n: int, seed: int) -> None:
    columns = columns_of(ALL_KINDS, n, seed)
    good = good_rows(columns, ALL_KINDS)
    expected = ALL_KINDS(take_all(columns, good)).arrays
    inputs = dense_inputs(columns, ALL_KINDS)
    module = EventTransform(ALL_KINDS)
    for given_inputs in (inputs, with_garbage(inputs, ALL_KINDS)):
        out = module(tensors(given_inputs))
        assert np.flatnonzero(out.valid.numpy()).tolist() == good.tolist()
        for name in ("x", "mask", "lengths"):
            values = out.arrays[name].numpy()
            assert values.dtype == expected[name].dtype
            np.testing.assert_array_equal(values[good], expected[name])


def test_lengths_that_their_lists_cannot_have_are_not_valid() -> None:
    transform = Transform.of_vector(
        VectorTransform(
            features=(FeatureTransform(branch="pt", kind="jagged", dtype="int32", width=3),)
        )
    )
    lengths = torch.tensor([-1, 0, 2, 3])
    out = EventTransform(transform)({"pt": torch.ones(4, 2).int(), "pt_length": lengths})
    assert out.valid.tolist() == [False, True, True, False]


def test_a_transform_keeps_its_precision() -> None:
    module = EventTransform(ALL_KINDS)
    inputs = {given.name: torch.from_numpy(given.zeros(2)) for given in graph_inputs(ALL_KINDS)}
    with pytest.raises(ConfigError, match=r"float64 and was cast to torch\.float16"):
        module.half()(inputs)


# --- the graph -------------------------------------------------------------------------------


class Vector(torch.nn.Module):
    """Scores that are the transformed event itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0


@pytest.fixture(scope="module")
def vector_graph() -> Graph:
    return Graph(save_graph(Vector().eval(), ALL_KINDS))


@settings(deadline=None, max_examples=40)
@EVENTS
def test_graph_agrees_with_numpy_to_the_bit(vector_graph: Graph, n: int, seed: int) -> None:
    columns = columns_of(ALL_KINDS, n, seed)
    good = good_rows(columns, ALL_KINDS)
    expected = ALL_KINDS(take_all(columns, good)).arrays["x"]
    inputs = dense_inputs(columns, ALL_KINDS)
    for given_inputs in (inputs, with_garbage(inputs, ALL_KINDS)):
        x, valid = vector_graph(given_inputs)
        assert np.flatnonzero(valid).tolist() == good.tolist()
        np.testing.assert_array_equal(x[good], expected)
        assert np.isnan(x[~valid]).all()


def test_exporting_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    transform = Transform.of_vector(
        VectorTransform(
            features=(FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1),)
        )
    )
    first = save_graph(ExampleScorer(1), transform)
    assert save_graph(ExampleScorer(1), transform) == first
    assert capfd.readouterr() == ("", "")


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] if x.sum() > 0 else x[:, 1]


class NoOnnx(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x.unsqueeze(2))[:, 0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branching, "torch.export refuses Branching: .*torch.where"),
        (NoOnnx, "NoOnnx cannot be written as ONNX: "),
    ],
)
def test_a_model_without_a_graph_says_why(model: type[torch.nn.Module], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        save_graph(model().eval(), example_transform())


def test_a_training_model_is_refused() -> None:
    scorer = ExampleScorer(example_transform().num_features).train()
    with pytest.raises(ConfigError, match=r"call scorer.eval\(\)"):
        save_graph(scorer, example_transform())


# --- the folder ------------------------------------------------------------------------------


def export(directory: Path, **changes: Any) -> Path:
    transform = changes.get("transform", example_transform())
    scorer = changes.get("scorer", ExampleScorer(transform.num_features))
    arguments: dict[str, Any] = {
        "name": "example",
        "scorer": scorer,
        "transform": transform,
        "task": "binary",
        "outputs": ["signal"],
        "golden_events": example_events(8),
        "metadata": {"auc": 0.9},
    } | changes
    if "golden_predictions" not in changes:
        events = arguments["golden_events"]
        arguments["golden_predictions"] = predict_events(events, transform, eager(scorer))
    return export_onnx(directory, **arguments)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("onnx"))


@pytest.fixture
def same_graph(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the seconds of making a graph that this test does not look at."""
    data = (exported / "model.onnx").read_bytes()
    monkeypatch.setattr(onnx_export, "save_graph", lambda scorer, transform: data)


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


# --- the runtime -----------------------------------------------------------------------------


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


def many(branches: int) -> Transform:
    """Flat and jagged branches of two dtypes; the jagged ones share a count."""
    features = [
        FeatureTransform(
            branch=f"{kind}{number}", kind=kind, width=1 if kind == "flat" else 2 + number % 3,
            dtype=("float32", "int32")[number % 2], factor=0.5 + number,
        )
        for kind in ("flat", "jagged") for number in range(branches)
    ]  # fmt: skip
    raw = [RawBranch(name=f.branch, kind=f.kind, dtype=f.dtype) for f in features]
    jets = SharedCount(lists=tuple(f.branch for f in features if f.kind == "jagged"))
    return Transform(
        preparation=Preparation(branches=tuple(raw), counts=(jets,)),
        vector=VectorTransform(features=tuple(features)),
    )


class Total(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(1)


def test_the_operations_of_a_graph_do_not_grow_with_its_branches() -> None:
    """Each branch had some of its own: the export of a NanoAOD took 11 minutes."""
    sizes = {
        branches: sum(
            node.op == "call_function"
            for node in traced_model(Total().eval(), many(branches)).graph.nodes
        )
        for branches in (4, 12)
    }
    assert sizes[4] == sizes[12]


def test_a_graph_of_many_branches_gives_the_numbers_of_numpy() -> None:
    transform, rng = many(12), np.random.default_rng(3)
    lengths = rng.integers(0, 5, 50)
    columns: dict[str, Column] = {}
    for branch in transform.branches:
        dtype = np.dtype(branch.dtype)
        if branch.kind == "flat":
            columns[branch.name] = rng.normal(0, 50, 50).astype(dtype)
        else:
            lists = [rng.normal(0, 50, size).astype(dtype).tolist() for size in lengths]
            columns[branch.name] = Jagged.from_lists(lists, dtype)
    rows, valid = Graph(save_graph(Total().eval(), transform))(dense_inputs(columns, transform))
    expected = transform(transform.prepare(columns)).arrays["x"]
    assert valid.all()
    np.testing.assert_allclose(rows, expected.sum(1, dtype=np.float64), rtol=1e-4)


# --- files and requests ------------------------------------------------------------------------

COMMAND = (
    "import sys; sys.modules['torch'] = sys.modules['tensorflow'] = None; "
    "from hepdata_adapters.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def command(*words: str) -> subprocess.Popen[str]:
    """The command line where no framework is installed."""
    search = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        env=os.environ | {"PYTHONPATH": search},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_events(path: Path, events: list[dict[str, Any]], **changed: Column) -> str:
    """The events as a file with the branches of the model; ``changed`` replaces some."""
    columns, faults = columns_from_events(events, example_transform())
    assert not faults
    arrays = {
        name: ak.Array(column.to_lists()) if isinstance(column, Jagged) else column
        for name, column in (columns | changed).items()
    }
    for name in ("Jet_pt", "Lep_eta"):
        arrays[name] = ak.values_astype(arrays[name], np.float32)
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: array_type(array) for name, array in arrays.items()})
        tree.extend(arrays)
    return f"{path}:Events"


def array_type(array: Any) -> Any:
    if isinstance(array, ak.Array):
        return array.type.content
    return (array.dtype, array.shape[1:]) if array.ndim > 1 else array.dtype


def test_files_are_predicted_and_a_bad_event_is_named(exported: Path, tmp_path: Path) -> None:
    events = example_events(60, seed=4)
    file = write_events(tmp_path / "events.root", events)
    output = tmp_path / "scores.root"
    process = command("predict", str(exported), file, "-o", str(output))
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert said == f"{output}: 60 events, all scored: a graph knows no selection and no split\n"
    with uproot.open(output) as scores:
        found = scores["scores"].arrays(library="np")
    transform = example_transform()
    offline = predict_events(events, transform, eager(ExampleScorer(transform.num_features)))
    np.testing.assert_allclose(found["score"], offline, rtol=0, atol=1e-6)
    assert found["entry"].tolist() == list(range(60))

    energies = np.array([event["HT"] for event in events])
    energies[41] = np.nan
    bad = write_events(tmp_path / "bad.root", events, HT=energies)
    for words, reason in (
        ((bad,), "the model refuses an event: HT holds NaN or infinity [file "),
        ((file, "--all"), "an ONNX graph knows no samples, selections or splits"),
    ):
        process = command("predict", str(exported.parent), *words, "-o", str(tmp_path / "b.root"))
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert reason in errors
        assert "Traceback" not in errors
        assert not (tmp_path / "b.root").exists()
    with pytest.raises(DataError) as error:
        predict_onnx(exported, [bad], tmp_path / "b.root")
    assert error.value.entries == (41, 42)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with command("serve", str(folder), "--port", "0") as process:
        try:
            assert process.stdout
            ready = process.stdout.readline().strip()
            assert re.fullmatch(r"ready: http://127\.0\.0\.1:\d+/predictions/example", ready), (
                ready or (process.stderr and process.stderr.read())
            )
            yield ready.removeprefix("ready: "), process
        finally:
            process.kill()


def test_an_exported_folder_is_served_as_torchserve_answers(exported: Path) -> None:
    transform = example_transform()
    score = eager(ExampleScorer(transform.num_features))
    events = example_events(40, seed=9)
    nan = json.dumps({"instances": [events[1] | {"MET": float("nan")}]}).encode()
    bodies = [
        json.dumps({"instances": events}).encode(),
        b'{"instances": []}',
        nan,
        nan.replace(b"NaN", b"null"),
        json.dumps({"instances": [events[0], events[1] | {"nJet": None}, 3]}).encode(),
        json.dumps({"instances": [events[0] | {"HT": None}]}).encode(),
        b"{broken",
        b"[]",
        b'{"instance": []}',
    ]
    with served(exported.parent) as (url, process):
        for body, wanted in zip(bodies, answer_batch(bodies, transform, score), strict=True):
            for encoding, content in (("identity", body), ("gzip", gzip.compress(body))):
                headers = {"Content-Encoding": encoding}
                answer = requests.post(url, data=content, headers=headers, timeout=30)
                assert answer.status_code == wanted.status
                assert answer.headers["content-type"] == "application/json"
                expected = json.loads(wanted.body)
                if wanted.status == 200:
                    assert answer.json()["predictions"] == pytest.approx(
                        expected["predictions"], abs=1e-6
                    )
                else:
                    assert answer.json() == expected
        np.testing.assert_allclose(
            client.predict(url, events), predict_events(events, transform, score), atol=1e-6
        )
        form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d has it
        assert requests.post(url, data=bodies[0], headers=form, timeout=30).status_code == 200
        for change, content, status, reason in (
            ({"Content-Encoding": "br"}, b"x", 415, "send gzip"),
            ({"Content-Encoding": "gzip"}, b"x", 400, "not valid gzip"),
            ({"Content-Encoding": "gzip"}, gzip.compress(bytes(10**8), 1), 413, "decompressed"),
        ):
            answer = requests.post(url, data=content, headers=change, timeout=60)
            assert (answer.status_code, reason in answer.json()["error"]) == (status, True)
        wrong = requests.post(url.replace("example", "other"), data=b"{}", timeout=30)
        assert (wrong.status_code, wrong.json()["error"]) == (
            404,
            "no model 'other' is served here, only example",
        )
        # the server closes the connection while the body is sent, or answers 413 before that
        with contextlib.suppress(requests.ConnectionError):
            assert requests.post(url, data=b" " * 2**25, timeout=60).status_code == 413
        assert len(client.predict(url, events[:2])) == 2
        port = url.split(":")[2].partition("/")[0]
        second = command("serve", str(exported), "--port", port)
        _, errors = second.communicate(timeout=60)
        assert (second.returncode, f"port {port} on 127.0.0.1 is in use" in errors) == (1, True)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")
