"""Lists that share a count in the files share it in requests, in every backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import InvalidValueError
from hepdata_adapters.common.files.derived_columns import common_preparation
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import ScoreFunction, Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.torch.transform.event_transform import EventTransform
from hepdata_serving.answers import answer_batch
from tests.conftest import EXAMPLES

GOOD = {"nJet": 2, "Jet_pt": [40.0, 30.0], "Jet_eta": [0.5, -0.5]}
EVENTS: list[dict[str, Any]] = [
    GOOD,
    GOOD | {"Jet_pt": [40.0]},
    GOOD | {"nJet": 9},
    GOOD | {"nJet": -1},
    GOOD | {"Jet_eta": []},
    {"nJet": 0, "Jet_pt": [], "Jet_eta": []},
    GOOD,
]
REASONS = {
    1: "Jet_eta has 2 values where Jet_pt has 1",
    2: "nJet is 9 where Jet_pt has 2 values",
    3: "nJet is -1 where Jet_pt has 2 values",
    4: "Jet_eta has 0 values where Jet_pt has 2",
}
JETS = ak.types.from_datashape("var * {pt: float32, eta: float32}", highlevel=False)
FEATURES = ("nJet", "Jet_pt", "Jet_eta")


TTH = f"{EXAMPLES / 'tth_0.root'}:Events"


def transform_of(files: list[Path | str], names: tuple[str, ...] = FEATURES) -> Transform:
    """The plain features of these branches, with the counts that the files prove."""
    manifest = build_manifest([Sample(files=tuple(map(str, files)))])
    branches = [manifest.branch(name) for name in names]
    features = tuple(
        FeatureTransform(
            branch=branch.name,
            kind=branch.kind,
            dtype=branch.dtype,
            width=3 if branch.kind == "jagged" else 1,
        )
        for branch in branches
        if branch.kind != "unsupported"
    )
    return Transform(
        preparation=common_preparation(manifest, names), vector=VectorTransform(features=features)
    )


@pytest.fixture(scope="module")
def transform() -> Transform:
    return transform_of([TTH])


def dense(events: list[dict[str, Any]], transform: Transform) -> dict[str, Any]:
    """The inputs of a graph, for events that reading would refuse as well."""
    columns = {
        branch.name: Jagged.from_lists([event[branch.name] for event in events], branch.dtype)
        if branch.kind == "jagged"
        else np.array([event[branch.name] for event in events], branch.dtype)
        for branch in transform.branches
    }
    return dense_inputs(columns, transform)


def test_impossible_events_are_refused_alone_with_branch_and_instance(transform: Transform) -> None:
    _, faults = columns_from_events(EVENTS, transform)
    assert faults == REASONS
    bodies = [json.dumps({"instances": [event]}).encode() for event in EVENTS]
    first: ScoreFunction = lambda x: np.asarray(x)[:, 0]  # noqa: E731
    answers = answer_batch(bodies, transform, first)
    assert [answer.status.value for answer in answers] == [200, 400, 400, 400, 400, 200, 200]
    for number, reason in REASONS.items():
        assert json.loads(answers[number].body)["instances"] == {"0": reason}
    together = answer_batch([json.dumps({"instances": EVENTS}).encode()], transform, first)
    assert json.loads(together[0].body)["instances"] == {str(i): r for i, r in REASONS.items()}


def test_reading_refuses_what_requests_may_not_hold(transform: Transform) -> None:
    raw = {
        "nJet": np.array([1, 9], np.int32),
        "Jet_pt": Jagged.from_lists([[1.0], [2.0]], np.float32),
        "Jet_eta": Jagged.from_lists([[1.0], [2.0]], np.float32),
    }
    with pytest.raises(InvalidValueError, match="nJet is 9 where Jet_pt has 1 values") as caught:
        transform.prepare(raw)
    assert caught.value.row == 1


def test_torch_and_onnx_mark_impossible_events(transform: Transform) -> None:
    from hepdata_serving.onnx.graph import save_graph
    from hepdata_serving.onnx.runtime import Graph

    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(1)

    inputs = dense(EVENTS, transform)
    wanted = [number not in REASONS for number in range(len(EVENTS))]
    events = EventTransform(transform)({name: torch.from_numpy(x) for name, x in inputs.items()})
    assert events.valid.tolist() == wanted
    scores, valid = Graph(save_graph(Sum().eval(), transform))(inputs)
    assert valid.tolist() == wanted
    assert np.isfinite(scores).tolist() == wanted
    assert scores[[0, 5, 6]].tolist() == [72.0, 0.0, 72.0]


def test_tensorflow_refuses_impossible_events(transform: Transform) -> None:
    tf = pytest.importorskip("tensorflow")
    from hepdata_adapters.tf.transform.event_transform import EventTransform as Layer

    layer = Layer(transform)
    good = [event for number, event in enumerate(EVENTS) if number not in REASONS]
    x = layer({name: tf.constant(v) for name, v in dense(good, transform).items()})["x"]
    assert x.numpy().sum(1).tolist() == [72.0, 0.0, 72.0]
    for number, reason in REASONS.items():
        inputs = dense([GOOD, EVENTS[number]], transform)
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{reason}.*event 1 of those"):
            layer({name: tf.constant(v) for name, v in inputs.items()})


def test_a_count_alone_is_no_negative_number() -> None:
    counts = transform_of([TTH], ("nJet",))
    _, faults = columns_from_events([{"nJet": -1}, {"nJet": 0}], counts)
    assert faults == {0: "nJet is -1: no count"}
    valid = EventTransform(counts)({"nJet": torch.tensor([-1, 0], dtype=torch.int32)}).valid
    assert valid.tolist() == [False, True]


def test_lists_without_a_common_count_stay_free(tmp_path: Path) -> None:
    """Of two files with a count and one with two: what not all files prove is not asked for."""
    lists = {"pt": [[1.0], [2.0, 3.0]], "eta": [[0.5], [0.5, 0.6]]}
    both, apart = tmp_path / "both.root", tmp_path / "apart.root"
    with uproot.recreate(both) as file:
        file.mktree("t", {"J": JETS})
        file["t"].extend({"J": ak.zip({k: ak.Array(v) for k, v in lists.items()})})
    with uproot.recreate(apart) as file:
        file.mktree("t", {"J_pt": "var * float32", "J_eta": "var * float32"})
        file["t"].extend({f"J_{k}": ak.Array(v) for k, v in lists.items()})
    names = ("J_pt", "J_eta")
    (shared,) = transform_of([both], names).preparation.counts
    assert (shared.lists, shared.counts) == (names, ())
    assert transform_of([apart], names).preparation.counts == ()
    assert transform_of([both, apart], names).preparation.counts == ()


def test_lists_of_an_rntuple_collection_share_its_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.root"
    jets = ak.Array([[{"pt": 1.0, "eta": 2.0}], []])
    with uproot.recreate(path) as file:
        file.mkrntuple("t", {"Jet": jets, "other": ak.Array([[1.0], [2.0]])})
    names = ("Jet.pt", "Jet.eta", "other")
    (shared,) = transform_of([path], names).preparation.counts
    assert (shared.lists, shared.counts) == (("Jet.pt", "Jet.eta"), ())


def test_archives_from_before_shared_counts_load(transform: Transform) -> None:
    old = json.loads(transform.model_dump_json())
    del old["preparation"]["counts"]
    old["version"] = 2
    loaded = Transform.model_validate_json(json.dumps(old))
    _, faults = columns_from_events(EVENTS, loaded)
    assert faults == {}
    assert Transform.model_validate_json(transform.model_dump_json()) == transform
