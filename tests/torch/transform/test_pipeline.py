"""The whole transform with PyTorch: numpy, the module, ONNX and TorchServe give the same."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
import yaml
from hypothesis import given, settings

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.columns import Jagged, take_all
from hepdata_adapters.common.core.errors import ConfigError, EventError
from hepdata_adapters.common.files.preparation import (
    ObjectGroup,
    Preparation,
    RawBranch,
)
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.ragged import RaggedTransform
from hepdata_adapters.common.transform.scalings.registered import scaling_function
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.torch.transform.event_transform import EventTransform
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.preparation import EventPreparation
from hepdata_serving.answers import predict_events
from hepdata_serving.errors import ExportError
from hepdata_serving.onnx.graph import save_graph
from hepdata_serving.onnx.runtime import Graph, OnnxModel
from hepdata_serving.torchserve.handler import RawEventHandler
from tests.helpers.exporters import export_onnx, export_torchserve
from tests.helpers.handlers import FakeContext, ask, body, python_path
from tests.helpers.pipelines import (
    EVENTS,
    JETS,
    TRANSFORM,
    assert_same,
    columns_of,
    dense,
    flattened,
    made_events,
    scaled,
)
from tests.helpers.torchserve_example import eager


def tensors(inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in inputs.items()}


class Flattened(torch.nn.Module):
    """All arrays as one row: what a served model sees."""

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([v.flatten(1).to(torch.float32) for v in inputs.values()], 1)


def arguments(transform: Transform, events: list[Any], predictions: list[Any]) -> dict[str, Any]:
    return {
        "name": "rows", "scorer": Flattened().eval() if transform.inputs else Plus0().eval(),
        "transform": transform, "task": "multiclass",
        "outputs": [f"f{number}" for number in range(len(predictions[0]))],
        "golden_events": events, "golden_predictions": predictions, "metadata": {},
    }  # fmt: skip


class Plus0(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0


def onnx(folder: Path, *described: Any) -> Path:
    return export_onnx(folder, **arguments(*described))


def torchserve(folder: Path, *described: Any) -> Path:
    return export_torchserve(folder, **arguments(*described))


@pytest.fixture(scope="module")
def golden() -> tuple[list[dict[str, Any]], list[Any]]:
    events, _ = made_events(60, seed=2)
    good = [event for event in events if not columns_from_events([event], TRANSFORM)[1]]
    return good[:8], predict_events(good[:8], TRANSFORM, eager_rows)


def eager_rows(inputs: Any) -> Any:
    return flattened(inputs)


@pytest.fixture(scope="module")
def served(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked archive."""
    folder = tmp_path_factory.mktemp("served")
    with zipfile.ZipFile(torchserve(folder, TRANSFORM, *golden)) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def exported(golden: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx(tmp_path_factory.mktemp("onnx"), TRANSFORM, *golden)


@pytest.fixture(scope="module")
def graph(exported: Path) -> Graph:
    return Graph((exported / "model.onnx").read_bytes())


# --- the module and the graph ----------------------------------------------------------------


def assert_agree(graph: Graph, inputs: Any, good: list[int], expected: Any) -> None:
    """The module and the graph take the good events only, and give what numpy does."""
    out = EventTransform(TRANSFORM)(tensors(inputs))
    assert np.flatnonzero(out.valid.numpy()).tolist() == good
    assert_same(out.arrays, good, expected)
    rows, valid = graph(inputs)
    assert np.flatnonzero(valid).tolist() == good
    np.testing.assert_allclose(rows[good], flattened(expected), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=150)
@given(EVENTS)
def test_module_and_graph_agree_with_numpy(graph: Graph, events: list[dict[str, Any]]) -> None:
    columns, faults = columns_from_events(events, TRANSFORM)
    expected: Any = TRANSFORM(TRANSFORM.prepare(columns)).arrays
    good = [row for row in range(len(events)) if row not in faults]
    assert_agree(graph, dense(events), good, expected)


def test_ten_thousand_events(graph: Graph) -> None:
    events, unequal = made_events(10_000, seed=1)
    equal = np.setdiff1d(np.arange(len(events)), unequal)
    prepared = TRANSFORM.prepare(columns_of([events[row] for row in equal]))
    refused = {int(equal[fault.row]) for fault in TRANSFORM.faults(prepared)}
    good = np.setdiff1d(equal, list(refused)).tolist()
    assert 50 < len(refused) < 5000
    kept = np.flatnonzero(np.isin(equal, good))
    expected: Any = TRANSFORM(take_all(prepared, kept)).arrays
    assert_agree(graph, dense(events), good, expected)


@pytest.mark.parametrize("length", [-1, 5, 2**40])
@pytest.mark.parametrize("branch", ["Jet_eta", "Jet_id", "Mu_pt"])
def test_a_length_that_its_row_cannot_have_spoils_its_event_alone(
    graph: Graph, branch: str, length: int
) -> None:
    events, _ = made_events(1, 0)
    event = events[0] | {name: [40.0, 50.0] for name in JETS} | {"Mu_pt": [1.0], "Mu_tag": [1]}
    event |= {"Jet_eta": [0.1, 0.2]}
    inputs = dense_inputs(columns_of([event] * 3), TRANSFORM)
    inputs[branch + LENGTH] = inputs[branch + LENGTH].copy()
    inputs[branch + LENGTH][1] = length
    assert EventTransform(TRANSFORM)(tensors(inputs)).valid.tolist() == [True, False, True]
    assert graph(inputs)[1].tolist() == [True, False, True]


def test_branches_that_are_only_cut_on_may_have_another_length() -> None:
    """As numpy, which does not look at them."""
    preparation = Preparation(
        branches=tuple(RawBranch(name=n, kind="jagged", dtype="float32") for n in ("pt", "id")),
        objects=(ObjectGroup(name="o", members=("pt", "id"), selection="pt > max(id)"),),
    )
    lists = {"pt": [[1.0, 5.0]], "id": [[2.0]]}
    raw = {name: Jagged.from_lists(values, np.float32) for name, values in lists.items()}
    found: Any = preparation(raw, ["pt"])["pt"]
    assert found.to_lists() == [[5.0]]
    padded = {
        name: Padded(torch.tensor(values), torch.tensor([len(values[0])]))
        for name, values in lists.items()
    }
    columns, valid = EventPreparation(preparation, ["pt"])(padded)
    assert (columns["pt"].lengths.tolist(), valid.tolist()) == ([1], [True])
    assert columns["pt"].values[0, 0] == 5
    _, valid = EventPreparation(preparation, ["pt", "id"])(padded)
    assert valid.tolist() == [False]


def test_inputs_alone_and_branches_that_nothing_needs() -> None:
    unused = RawBranch(name="unused", kind="jagged", dtype="int16")
    preparation = Preparation(branches=(*TRANSFORM.branches, unused))
    transform = Transform(preparation=preparation, inputs={"type": TRANSFORM.inputs["jets"]})
    events = [event | {"unused": [1]} for event in made_events(20, seed=4)[0]]
    columns, faults = columns_from_events(events, transform)
    good = [row for row in range(len(events)) if row not in faults]
    expected: Any = transform(transform.prepare(columns)).arrays
    inputs = dense(events, transform)
    out = EventTransform(transform)(tensors(inputs))
    assert np.flatnonzero(out.valid.numpy()).tolist() == good
    assert_same(out.arrays, good, expected)
    rows, _ = Graph(save_graph(Flattened().eval(), transform))(inputs)
    np.testing.assert_allclose(rows[good], flattened(expected), rtol=1e-6, atol=1e-6)


def test_a_plain_vector_gets_no_preparation() -> None:
    plain = Transform.of_vector(VectorTransform(features=(scaled("MET"), scaled("n"))))
    assert EventTransform(plain).preparation is None


RAGGED = {
    "ragged": RaggedTransform(features=(scaled("Jet_pt", "jagged", dtype="float32"),)),
    "sparse": ImageTransform(
        axes=(ImageBins(branch="Jet_eta", edges=(-1, 0, 1)),), sparse=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(RAGGED))
def test_inputs_without_a_dense_form_are_named(kind: str, tmp_path: Path) -> None:
    transform = Transform(preparation=TRANSFORM.preparation, inputs={"mine": RAGGED[kind]})
    with pytest.raises(ConfigError, match=f"'mine' is {kind}"):
        EventTransform(transform)
    for export in (onnx, torchserve):
        with pytest.raises(ExportError, match="inputs: 'mine"):
            export(tmp_path, transform, [{}], [[0.5, 0.5]])


# --- the archives ----------------------------------------------------------------------------


def test_servers_answer_as_numpy(served: Path, exported: Path) -> None:
    events, _ = made_events(300, seed=3)
    handler, model = RawEventHandler(), OnnxModel(exported)
    handler.initialize(FakeContext(served))
    faults = columns_from_events(events, TRANSFORM)[1]
    good = [event for row, event in enumerate(events) if row not in faults]
    expected = predict_events(good, TRANSFORM, eager_rows)
    ((status, answer),) = ask(handler, body(*good))
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(model.predict(good), expected, rtol=1e-6, atol=1e-6)
    ((status, answer),) = ask(handler, body(*events))
    assert status == 400
    assert list(answer["instances"]) == list(map(str, faults))
    with pytest.raises(EventError, match=f"event {min(faults)}: "):
        model.predict(events)


def test_the_archived_code_needs_nothing_heavy(served: Path) -> None:
    """TorchServe's Python has torch and numpy, maybe none of what reads files."""
    code = (
        "import sys\n"
        "for name in ('awkward', 'uproot', 'sklearn', 'fastdigest', 'yaml', 'pandas', 'hist'):\n"
        "    sys.modules[name] = None\n"
        "import hepdata_handler\n"
        "class Context: system_properties = {'model_dir': '.'}\n"
        "hepdata_handler.RawEventHandler().initialize(Context())\n"
    )
    environment = os.environ | {"PYTHONPATH": python_path(served)}
    subprocess.run([sys.executable, "-c", code], cwd=served, env=environment, check=True)


# --- the user's scaling functions ------------------------------------------------------------


@scaling_function("pipeline_signed_sqrt")
def signed_sqrt(xp: Any, values: Any) -> Any:
    return xp.sign(values) * xp.sqrt(xp.abs(values))


@scaling_function("pipeline_branching")
def branching(xp: Any, values: Any) -> Any:
    return values if values.sum() > 0 else -values


@scaling_function("pipeline_no_onnx")
def no_onnx(xp: Any, values: Any) -> Any:
    return xp.special.zeta(values, values) if xp is torch else values


def with_function(name: str) -> Transform:
    feature = scaled("MET", function={"kind": "registered", "name": name}, missing=4.0)
    other = scaled("HT", dtype="float32")
    return Transform.of_vector(VectorTransform(features=(feature, other)))


@pytest.fixture(scope="module")
def own_function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transform = with_function("pipeline_signed_sqrt")
    events = [{"MET": 16.0, "HT": 3.0}, {"MET": float("nan"), "HT": 1.0}]
    predictions = predict_events(events, transform, eager(Plus0()))
    assert predictions == [[0.75, 0.5], [0.25, 0.0]]
    return onnx(tmp_path_factory.mktemp("own"), transform, events, predictions)


def test_a_graph_holds_the_users_function(own_function: Path) -> None:
    code = (
        "import sys; from hepdata_serving.onnx.runtime import OnnxModel\n"
        "model = OnnxModel(sys.argv[1])\n"
        "assert model.predict([{'MET': -25, 'HT': 5}]) == [[-1.5, 1.0]]\n"
        "from hepdata_adapters.common.core.errors import EventError\n"
        "for event in ({'MET': 1, 'HT': None}, {'MET': 1}):\n"
        "    try: model.predict([{'MET': 1, 'HT': 5}, event])\n"
        "    except EventError as error: print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": python_path()}
    done = subprocess.run(
        [sys.executable, "-c", code, str(own_function)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, missing = done.stdout.splitlines()
    assert refused.startswith("the graph refuses event 1; why is not known here: ")
    assert "no scaling function is called 'pipeline_signed_sqrt'" in refused
    assert missing.startswith("event 1: branch 'HT' is missing")
    # here it is registered
    with pytest.raises(EventError, match="event 0: HT holds NaN or infinity"):
        OnnxModel(own_function).predict([{"MET": 1, "HT": None}])


def test_an_archive_does_not_leave_out_a_function(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"feature 'MET' is scaled by the function 'pipeline_branching'.*onnx"
    ):
        torchserve(tmp_path, with_function("pipeline_branching"), [{}], [[0.5, 0.5]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pipeline_branching", "scaling function 'pipeline_branching' failed"),
        ("pipeline_no_onnx", "'pipeline_no_onnx' of feature 'MET' cannot be written as ONNX"),
    ],
)
def test_a_function_without_a_graph_is_named(name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        save_graph(Plus0().eval(), with_function(name))


# --- from a config to servers ----------------------------------------------------------------

MODEL = """
import torch
from torch import nn

class DeepSet(nn.Module):
    def __init__(self, shapes, num_outputs):
        super().__init__()
        self.objects = nn.Sequential(nn.Linear(shapes["jets"][1], 8), nn.ReLU())
        self.event = nn.Linear(8 + shapes["x"][0], num_outputs)

    def forward(self, inputs):
        objects = self.objects(inputs["jets"]) * inputs["jets_mask"].unsqueeze(2)
        return self.event(torch.cat([objects.sum(1), inputs["x"]], 1))

def make(shapes, num_outputs):
    return DeepSet(shapes, num_outputs)
"""


def write_jets(path: Path, size: int, shift: float) -> None:
    rng = np.random.default_rng(size)
    lengths = rng.poisson(3, size)
    jets = {
        name: ak.unflatten(rng.exponential(40 + shift, lengths.sum()).astype(np.float32), lengths)
        for name in ("Jet_pt", "Jet_m")
    }
    with uproot.recreate(path) as file:
        file.mktree("Events", {"MET": "float32"} | dict.fromkeys(jets, "var * float32"))
        file["Events"].extend({"MET": rng.exponential(30, size).astype(np.float32)} | jets)


def test_a_set_model_from_config_to_servers(tmp_path: Path) -> None:
    for name, size, shift in (("sig.root", 300, 20.0), ("bkg.root", 280, 0.0)):
        write_jets(tmp_path / name, size, shift)
    (tmp_path / "model.py").write_text(MODEL)
    config = {
        "samples": [{"files": "sig.root", "label": 1}, {"files": "bkg.root", "label": 0}],
        "objects": {"Jet": {"selection": "Jet_pt > 20", "sort_by": "Jet_pt"}},
        "columns": {"HT": "sum(Jet_pt)"},
        "features": [{"branch": "MET", "scaling": "log1p"}, "HT"],
        "inputs": {"jets": {"kind": "set", "features": ["Jet_pt", "Jet_m"], "length": 4}},
        "model": {"factory": "model.py:make"},
        "training": {"epochs": 1, "batch_size": 64},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run, files = tmp_path / "run", [str(tmp_path / name) for name in ("sig.root", "bkg.root")]
    assert main(["fit", str(tmp_path / "config.yaml"), "-o", str(run)]) == 0
    assert main(["evaluate", str(run)]) == 0
    scores = tmp_path / "scores.root"
    assert main(["predict", str(run), *files, "-o", str(scores)]) == 0
    for kind in ("onnx", "torchserve"):
        assert main(["export", str(run), "--format", kind]) == 0
    with uproot.open(scores) as file:
        (tree,) = (value for value in file.values() if hasattr(value, "arrays"))
        expected = tree["score"].array(library="np")
    with uproot.open(files[0]) as file:
        raw = file["Events"].arrays(["MET", "Jet_pt", "Jet_m"], entry_stop=100)
    events = raw.to_list()
    (folder,) = (path.parent for path in run.glob("onnx/*/model.onnx"))
    found = OnnxModel(folder).predict(events)
    np.testing.assert_allclose(found, expected[:100], rtol=0, atol=1e-6)
    code = (
        "import sys; sys.modules['torch'] = sys.modules['tensorflow'] = None; "
        "from hepdata_adapters.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["predict", str(run / "onnx"), *files, "-o", str(tmp_path / "graph.root")]
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    environment = os.environ | {"PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code, *words], env=environment, check=True, timeout=120)
    with uproot.open(scores) as ours, uproot.open(tmp_path / "graph.root") as theirs:
        graph, local = (file["scores"].arrays(library="np") for file in (theirs, ours))
    np.testing.assert_allclose(graph["score"], local["score"], rtol=0, atol=1e-6)
    for name in ("file", "entry"):
        np.testing.assert_array_equal(graph[name], local[name])
    with zipfile.ZipFile(next(run.glob("torchserve/model_store/*.mar"))) as archive:
        archive.extractall(tmp_path / "unpacked")
    handler = RawEventHandler()
    handler.initialize(FakeContext(tmp_path / "unpacked"))
    ((status, answer),) = ask(handler, body(*events))
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], expected[:100], rtol=0, atol=1e-6)
