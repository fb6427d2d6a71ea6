"""TF Serving's interfaces, asked with the official gRPC stubs and with plain HTTP."""

from __future__ import annotations

import gzip
import json
import os
import queue
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving")

import grpc
import numpy as np
import requests
import tensorflow as tf
import uproot
from google.protobuf.json_format import ParseDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from hepdata_adapters.common.core.errors import ConfigError, DataError, EventError
from hepdata_adapters.common.inference.input_files import raw_events, scan_inputs
from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.scaling import FeatureTransform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_serving.errors import ArchiveError, ServerError
from hepdata_serving.integrity import folder_sums
from hepdata_serving.predict import predict_remote
from hepdata_serving.tfserving import client, engine, rest, servable
from hepdata_serving.tfserving.aspired import read_config
from hepdata_serving.tfserving.protocol import AVAILABLE, END, message
from hepdata_serving.tfserving.reload import apply_rollout
from hepdata_serving.tfserving.server import TFServer
from hepdata_serving.tfserving.versions import promote, rollback
from tests.conftest import EXAMPLES
from tests.servers import free_port, poll
from tests.tfserving_example import (
    offline,
    small_events,
    small_export,
    small_scorer,
    small_transform,
)

SERVE = (
    "import sys; from hepdata_serving.tfserving.server import serve; "
    "sys.exit(serve(sys.argv[1], 0, grpc_port=0))"
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model ``tth`` in versions 1 (stable) and 2 (canary)."""
    folder = tmp_path_factory.mktemp("exported")
    small_export(folder, "tth", versions=2)
    return folder


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TFServer]:
    """Both versions of ``tth``, and ``three`` with three classes."""
    folder = tmp_path_factory.mktemp("models") / "copy"
    shutil.copytree(exported, folder)
    small_export(folder, "three", classes=3)
    with TFServer(folder, port=0, grpc_port=0, poll=None) as running:
        yield running


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "moved"))


def expected(events: list[dict[str, Any]], version: int = 1, classes: int = 1) -> Any:
    transform = small_transform()
    scorer = small_scorer(transform.num_features, classes, version - 1)
    return np.array(offline(scorer, transform, events))


def inputs_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    columns, faults = columns_from_events(events, small_transform())
    assert not faults
    return dense_inputs(columns, small_transform())


def rows_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One object an event, as the row format wants them."""
    lists = {name: values.tolist() for name, values in inputs_of(events).items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def post(url: str, body: Any) -> requests.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(url, data=content, timeout=60)


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=60)


def at(server: TFServer, place: str, name: str = "tth") -> str:
    return server.urls[name].removesuffix(":predict") + place


def request(inputs: dict[str, Any], **spec: Any) -> PredictRequest:
    tensors = {name: tf.make_tensor_proto(values) for name, values in inputs.items()}
    return PredictRequest(model_spec=ModelSpec(**{"name": "tth", **spec}), inputs=tensors)


@pytest.fixture
def channel(server: TFServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture
def predictions(channel: grpc.Channel) -> PredictionServiceStub:
    return PredictionServiceStub(channel)


# --- predictions -----------------------------------------------------------------------------


def test_a_thousand_raw_events_by_rest_and_grpc_are_predicted_as_offline(
    server: TFServer, predictions: PredictionServiceStub
) -> None:
    events = small_events(1000, seed=5)
    assert any(np.isnan(event["MET"]) for event in events)
    assert any(not event["Jet_pt"] for event in events)
    assert any(len(event["Jet_pt"]) > 8 for event in events)
    by_client = client.predict(server.urls["tth"], events, batch=300)
    by_row = post(server.urls["tth"], {"instances": rows_of(events)}).json()["predictions"]
    answer = predictions.Predict(request(inputs_of(events)), timeout=60)
    by_grpc = tf.make_ndarray(answer.outputs["score"])
    assert by_grpc.dtype == np.float32
    for served in (by_client, by_row, by_grpc):
        np.testing.assert_allclose(served, expected(events), rtol=0, atol=1e-6)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("tth", 1)
    assert answer.model_spec.signature_name == "serving_default"


def test_several_models_have_no_one_url(server: TFServer) -> None:
    assert list(server.urls) == ["three", "tth"]
    with pytest.raises(ConfigError, match="several models: three, tth"):
        _ = server.url


def test_classes_and_prepared_vectors(server: TFServer, predictions: PredictionServiceStub) -> None:
    events = small_events(20, seed=6)
    wanted = expected(events, version=1, classes=3)
    served = client.predict(server.urls["three"], events)
    np.testing.assert_allclose(served, wanted, rtol=0, atol=1e-6)
    columns, _ = columns_from_events(events, small_transform())
    x = small_transform()(columns).arrays["x"]
    rest_vector = {"signature_name": "prepared", "instances": x.tolist()}
    named = {"signature_name": "prepared", "instances": [{"x": row} for row in x.tolist()]}
    by_column = {"signature_name": "prepared", "inputs": x.tolist()}
    for body in (rest_vector, named):
        answer = post(server.urls["three"], body).json()["predictions"]
        np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-6)
    answer = post(server.urls["three"], by_column).json()["outputs"]
    np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-6)
    by_grpc = predictions.Predict(
        request({"x": x}, name="three", signature_name="prepared"), timeout=60
    )
    np.testing.assert_allclose(tf.make_ndarray(by_grpc.outputs["score"]), wanted, rtol=0, atol=1e-6)


def test_files_are_scored_through_the_url_as_offline(tmp_path: Path) -> None:
    vector = VectorTransform(
        features=(
            FeatureTransform(branch="MET_pt", kind="flat", dtype="float32", width=1, factor=0.01),
            FeatureTransform(branch="nJet", kind="flat", dtype="int32", width=1, factor=0.1),
            FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=6, factor=0.01),
            FeatureTransform(branch="Jet_isBTagged", kind="jagged", dtype="bool", width=6),
            FeatureTransform(branch="Jet_nConstituents", kind="jagged", dtype="int32", width=6),
        )
    )
    transform = Transform.of_vector(vector)
    file = f"{EXAMPLES / 'tth_0.root'}:Events"
    manifest = scan_inputs([file], transform)
    branches = [branch.name for branch in transform.branches]
    events = [
        event
        for unit in raw_events(manifest, branches)
        for event in events_from_columns(unit.columns)
    ]
    scorer = small_scorer(transform.num_features)
    wanted = offline(scorer, transform, events)
    small_export(
        tmp_path / "models", transform=transform, scorer=scorer,
        golden_events=events[:4], golden_predictions=wanted[:4],
    )  # fmt: skip
    with TFServer(tmp_path / "models", 0, 0, poll=None) as server:
        done = predict_remote(server.url, [file], tmp_path / "scores.root", lambda *_: None)
    scores = uproot.open(tmp_path / "scores.root")["scores"]["score"].array(library="np")
    assert done == len(scores) == 2000
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-6)


def test_bad_requests_among_forty_at_once_spoil_none(server: TFServer) -> None:
    events = small_events(120, seed=7)
    wanted = expected(events)
    bad: dict[int, tuple[bytes, str]] = {
        3: (b"{broken", "not valid JSON"),
        11: (json.dumps({"instances": [rows_of(events[:1])[0], {"MET": 1.0}]}).encode(), "missing"),
        17: (b"[]", "must be an object"),
        26: (json.dumps({"instances": [rows_of(events[:1])[0] | {"HT": "x"}]}).encode(), "'HT'"),
        38: (json.dumps({"instances": [rows_of(events[:1])[0] | {"HT": np.nan}]}).encode(), "HT"),
    }
    together = threading.Barrier(40)

    def ask(number: int) -> requests.Response:
        mine = events[3 * number : 3 * number + 3]
        body = bad[number][0] if number in bad else {"instances": rows_of(mine)}
        together.wait(30)
        return post(server.urls["tth"], body)

    for _ in range(3):
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(ask, range(40)))
        for number, answer in enumerate(answers):
            if number in bad:
                assert answer.status_code == 400
                assert bad[number][1] in answer.json()["error"]
            else:
                assert answer.status_code == 200, answer.text
                mine = wanted[3 * number : 3 * number + 3]
                np.testing.assert_allclose(answer.json()["predictions"], mine, rtol=0, atol=1e-6)


def test_any_savedmodel_is_served_with_its_own_outputs(tmp_path: Path) -> None:
    class Arithmetic(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.uint8, "a"),
                tf.TensorSpec([], tf.float64, "factor"),
            ]
        )
        def both(self, a: Any, factor: Any) -> dict[str, Any]:
            wide = tf.cast(a, tf.float64)
            return {"scaled": wide * factor, "inverse": 1 / wide, "factor": factor}

    module = Arithmetic()
    tf.saved_model.save(module, str(tmp_path / "models/math/7"), {"serving_default": module.both})
    (tmp_path / "models.config").write_text(
        'model_config_list { config { name: "math" base_path: "/any/math" '
        'model_platform: "tensorflow" } }'
    )
    with TFServer(tmp_path, 0, 0, poll=None) as server:
        answer = post(server.url, {"inputs": {"a": [0, 4], "factor": 2}})
        outputs = {"scaled": [0.0, 8.0], "inverse": [float("inf"), 0.25], "factor": 2.0}
        assert answer.json() == {"outputs": outputs}
        assert "Infinity" in answer.text  # the word that TF Serving writes
        refused = post(server.url, {"inputs": {"a": [256], "factor": 2}})
        assert refused.json() == {"error": "input 'a': 256 is not in the range of uint8"}
        refused = post(server.url, {"instances": [{"a": 1, "factor": 2}]})
        assert "input 'factor' takes the shape (), not (1,)" in refused.json()["error"]
        with grpc.insecure_channel(server.grpc_address) as channel:
            asked = request({"a": np.array([4], np.uint8), "factor": np.float64(2)}, name="math")
            asked.output_filter.append("scaled")
            answered = PredictionServiceStub(channel).Predict(asked, timeout=60)
            assert list(answered.outputs) == ["scaled"]
            asked.output_filter.append("nothing")
            with pytest.raises(grpc.RpcError, match="there is no output 'nothing'"):
                PredictionServiceStub(channel).Predict(asked, timeout=60)


# --- inputs that do not fit --------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "MET": [1.5, 2.5],
    "event_number": [1, 2],
    "HT": [100.0, 200.0],
    "trigger": [True, False],
    "vertex": [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]],
    "Jet_pt": [[50.0, 30.0], [40.0, 0.0]],
    "Jet_pt_length": [2, 1],
    "Lep_eta": [[0.5], [0.0]],
    "Lep_eta_length": [1, 0],
}
MISSING = object()
BAD_VALUES: list[tuple[str, Any, str]] = [
    ("MET", MISSING, "input 'MET' is missing"),
    ("Jet_pt_length", MISSING, "input 'Jet_pt_length' is missing"),
    ("not_a_branch", [1, 2], "input 'not_a_branch' is not one of the model"),
    ("MET", ["a", "b"], "input 'MET' takes numbers, not a string"),
    ("MET", [1.0, True], "input 'MET' takes numbers, not true"),
    ("MET", [{"b64": "AAAA"}, 1], "input 'MET' takes numbers, not an object"),
    ("MET", [1e39, 1.0], "input 'MET': 1e+39 is not in the range of float32"),
    ("MET", [10**400, 1], "input 'MET': 1000000000000000000000000000000000000000 is not in"),
    ("event_number", [1.5, 2], "input 'event_number' takes integers, not 1.5"),
    ("event_number", [2**63, 2], "input 'event_number': 9223372036854775808 is not in the range"),
    ("event_number", [1, None], "input 'event_number' takes integers, not null (instance 1)"),
    ("event_number", [1, float("nan")], "takes integers, not NaN (instance 1)"),
    ("Jet_pt_length", [None, 1], "input 'Jet_pt_length' takes integers, not null (instance 0)"),
    ("trigger", [None, True], "input 'trigger' takes true or false, not null (instance 0)"),
    ("vertex", [[0.0, 0.0, 0.0], [1.0, "a", 1.0]], "not a string (instance 1)"),
    ("HT", [1.0, None], "HT holds NaN or infinity (event 1 of those given)"),
    ("trigger", [1, 0], "input 'trigger' takes true or false, not 1"),
    ("MET", [[1.0], [2.0]], "input 'MET' takes the shape (n,), not (2, 1)"),
    ("MET", 1.0, "input 'MET' takes the shape (n,), not ()"),
    ("vertex", [[1.0, 2.0], [1.0, 2.0]], "input 'vertex' takes the shape (n, 3), not (2, 2)"),
    ("Jet_pt", [1.0, 2.0], "input 'Jet_pt' takes the shape (n, ?), not (2,)"),
    ("Jet_pt", [[1.0], [2.0, 3.0]], "input 'Jet_pt' has lists of 1 and of 2 values; pad them"),
    ("Jet_pt", [[1.0], 2.0], "input 'Jet_pt' mixes lists and numbers"),
    ("MET", [1.0], "rows, input"),
    ("HT", [float("nan"), 1.0], "HT holds NaN or infinity (event 0 of those given)"),
    ("Jet_pt_length", [3, 0], "Jet_pt_length holds 3, which is not in 0..2"),
    ("Lep_eta_length", [-1, 0], "Lep_eta_length holds -1, which is not in 0..1"),
]


def changed(name: str, value: Any) -> dict[str, Any]:
    inputs = {**GOOD, name: value}
    return {key: given for key, given in inputs.items() if given is not MISSING}


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES)
def test_a_bad_input_gets_a_400_with_its_name(
    name: str, value: Any, message: str, server: TFServer
) -> None:
    answer = post(server.urls["tth"], {"inputs": changed(name, value)})
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert name in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MET", MISSING, "input 'MET' is missing"),
        ("not_a_branch", np.ones(2), "input 'not_a_branch' is not one of the model"),
        ("MET", np.ones(2), "input 'MET' takes float32, not float64"),
        ("trigger", np.array([b"x", b"y"]), "input 'trigger' takes bool, not object"),
        ("MET", np.ones((2, 1), np.float32), "input 'MET' takes the shape (n,), not (2, 1)"),
        ("vertex", np.ones((2, 4), np.float32), "input 'vertex' takes the shape (n, 3), not"),
        ("MET", np.ones(3, np.float32), "rows, input"),
        ("HT", np.array([1, np.inf]), "HT holds NaN or infinity"),
    ],
)
def test_a_bad_tensor_is_an_invalid_argument_with_its_name(
    name: str, value: Any, message: str, predictions: PredictionServiceStub
) -> None:
    inputs = inputs_of(small_events(2)) | {name: value}
    asked = request({key: given for key, given in inputs.items() if given is not MISSING})
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(asked, timeout=60)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()
    assert name in error.value.details()


def test_a_tensor_larger_than_it_was_sent_is_refused(predictions: PredictionServiceStub) -> None:
    asked = request(inputs_of(small_events(2)))
    bomb = asked.inputs["MET"]
    bomb.CopyFrom(tf.make_tensor_proto(np.ones(1, np.float32)))
    bomb.tensor_shape.dim[0].size = 10**12  # one value that stands for all
    with pytest.raises(grpc.RpcError, match="input 'MET' is no tensor: its shape is") as error:
        predictions.Predict(asked, timeout=60)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"inputs": 1e999}', "1e999 is too large a number"),
        (b"{" + b'"a":{' * 100_000, "not valid JSON"),
        (b'"inputs"', "must be an object"),
        (b"{}", "'instances' or 'inputs'"),
        (b'{"inputs": 1, "instances": [1]}', "'instances' or 'inputs', and not both"),
        (b'{"instances": []}', "at least one instance"),
        (b'{"instances": {"MET": 1}}', "'instances' must be a list"),
        (b'{"instances": [[1.0]]}', "'instances' must hold objects"),
        (b'{"inputs": [1.0]}', "'inputs' must be an object"),
        (b'{"instances": [{"MET": 1}]}', "input 'HT' is missing"),
        (b'{"signature_name": 1, "inputs": {}}', "'signature_name' must be a string"),
        (b'{"signature_name": "x", "inputs": {}}', "no signature 'x'"),
        (b'{"signature_name": "__saved_model_init_op", "inputs": {}}', "no signature"),
    ],
)
def test_a_malformed_body_gets_a_400(body: bytes, message: str, server: TFServer) -> None:
    answer = post(server.urls["tth"], body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_body_too_large_gets_a_413_and_the_server_lives_on(
    server: TFServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 1000)
    answer = post(server.urls["tth"], b" " * 2000)
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "the body is larger than 1000 bytes"},
    )
    assert post(server.urls["tth"], {"inputs": GOOD}).status_code == 200


@pytest.mark.parametrize("by_row", [True, False])
def test_null_and_nan_are_the_same_missing_value(by_row: bool, server: TFServer) -> None:
    events = small_events(2, seed=1)
    events[0] |= {"MET": float("nan"), "Jet_pt": [float("nan"), 30.0]}
    inputs = {name: values.tolist() for name, values in inputs_of(events).items()}
    sent = {"instances": rows_of(events)} if by_row else {"inputs": inputs}
    answers = []
    for word in ("null", "NaN"):
        content = json.dumps(sent).replace("NaN", word).encode()
        assert word.encode() in content
        answer = post(server.urls["tth"], content)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json()["predictions" if by_row else "outputs"])
    assert answers[0] == answers[1]
    np.testing.assert_allclose(answers[0], expected(events), rtol=0, atol=1e-5)


def post_as(encoding: str, url: str, content: bytes) -> requests.Response:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    return requests.post(url, data=content, headers=headers, timeout=60)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity"])
def test_a_compressed_body_is_read(encoding: str, server: TFServer) -> None:
    url, plain = server.urls["tth"], json.dumps({"inputs": GOOD}).encode()
    sent = plain if encoding == "identity" else gzip.compress(plain)
    answer = post_as(encoding, url, sent)
    assert (answer.status_code, answer.json()) == (200, post(url, plain).json())


# what is sent is made in the test: gzip writes the time, and a name of a test must not change
@pytest.mark.parametrize(
    ("encoding", "made", "status", "message"),
    [
        ("gzip", "plain", 400, "the body is not valid gzip: Not a gzipped file"),
        ("gzip", "cut", 400, "the body is not valid gzip"),
        ("gzip", "bomb", 413, "larger than 16777216 bytes when it is"),
        ("gzip", "broken", 400, "not valid JSON"),
        ("br", "plain", 415, "Content-Encoding 'br' is not known here: send gzip"),
        ("gzip, gzip", "plain", 415, "send gzip, or no encoding"),
    ],
)
def test_a_compressed_body_that_cannot_be_read(
    encoding: str, made: str, status: int, message: str, server: TFServer
) -> None:
    plain = b'{"inputs": {}}'
    content = {
        "plain": plain,
        "cut": gzip.compress(plain)[:-9],
        "bomb": gzip.compress(bytes(10**8), 1),
        "broken": gzip.compress(b"{broken"),
    }[made]
    answer = post_as(encoding, server.urls["tth"], content)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert post(server.urls["tth"], {"inputs": GOOD}).status_code == 200


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
documents = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "x", "b64"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.dictionaries(st.sampled_from(list(GOOD)), documents, max_size=2),
    document=st.dictionaries(
        st.sampled_from(["inputs", "instances", "signature_name"]), documents | st.just("prepared")
    ),
)
def test_any_json_is_answered_or_refused(
    changes: dict[str, Any], document: dict[str, Any], server: TFServer
) -> None:
    rows = [{key: values[row] for key, values in GOOD.items()} for row in range(2)]
    bodies = [document, {"inputs": GOOD | changes}, {"instances": [rows[0], rows[1] | changes]}]
    for body in bodies:
        answer = post(server.urls["tth"], body)
        if answer.status_code != 200:
            assert answer.status_code == 400, (body, answer.text)
            assert list(answer.json()) == ["error"]


# --- models, versions, labels ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "version"),
    [("", 1), ("/versions/1", 1), ("/versions/2", 2), ("/labels/stable", 1), ("/labels/canary", 2)],
)
def test_versions_and_labels(place: str, version: int, server: TFServer) -> None:
    events = small_events(5, seed=8)
    assert not np.allclose(expected(events, 1), expected(events, 2), atol=1e-4)
    served = client.predict(at(server, f"{place}:predict"), events)
    np.testing.assert_allclose(served, expected(events, version), rtol=0, atol=1e-6)
    with grpc.insecure_channel(server.grpc_address) as channel:
        spec: dict[str, Any] = {}
        if place.startswith("/versions/"):
            spec = {"version": {"value": version}}
        elif place:
            spec = {"version_label": place.rpartition("/")[2]}
        answer = PredictionServiceStub(channel).Predict(
            request(inputs_of(events), **spec), timeout=60
        )
    assert answer.model_spec.version.value == version


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/nothing:predict", 404, "no model 'nothing' is served, only: three"),
        ("POST", "/v1/models/tth/versions/9:predict", 404, "version 9 of model 'tth' is not"),
        ("POST", f"/v1/models/tth/versions/{10**30}:predict", 400, "too large for a version"),
        ("POST", "/v1/models/tth/labels/no:predict", 400, "no label 'no'; its labels: canary, st"),
        ("POST", "/v1/models/tth:classify", 501, "classify takes tf.Example"),
        ("POST", "/v1/models/tth:regress", 501, "use predict"),
        ("POST", "/v1/models/tth:other", 400, "Malformed request: POST /v1/models/tth:other"),
        ("GET", "/v1/models/tth:predict", 400, "Malformed request"),
        ("DELETE", "/v1/models/tth", 400, "Malformed request"),
        ("GET", "/v1/models/nothing", 404, "could not find any version of model 'nothing'"),
        ("GET", "/v1/models/tth/versions/9", 404, "could not find version 9 of model 'tth'"),
        ("GET", "/v1/models/tth/labels/no/metadata", 400, "no label 'no'"),
        ("GET", "/v1/models/nothing/metadata", 404, "no model 'nothing'"),
        ("GET", "/v1/models/../../etc/passwd", 404, "nothing is at"),
        ("GET", "/", 404, "models are at /v1/models/<name>"),
    ],
)
def test_a_path_that_is_wrong(
    method: str, path: str, status: int, message: str, server: TFServer
) -> None:
    base = server.urls["tth"].partition("/v1/")[0]
    body = json.dumps({"inputs": GOOD})
    answer = requests.request(method, base + path, data=body, timeout=60)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"name": "nothing"}, grpc.StatusCode.NOT_FOUND),
        ({"name": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"version": {"value": 9}}, grpc.StatusCode.NOT_FOUND),
        ({"version_label": "no"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"signature_name": "no"}, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_grpc_status_codes_are_those_of_tf_serving(
    spec: dict[str, Any], code: grpc.StatusCode, predictions: PredictionServiceStub
) -> None:
    with pytest.raises(grpc.RpcError) as error:
        predictions.Predict(request({}, **spec), timeout=60)
    assert error.value.code() is code


def test_classify_is_unimplemented(predictions: PredictionServiceStub) -> None:
    with pytest.raises(grpc.RpcError, match="use Predict") as error:
        predictions.Classify(ClassificationRequest(), timeout=60)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_status_and_metadata(server: TFServer, predictions: PredictionServiceStub) -> None:
    fine = {"error_code": "OK", "error_message": ""}
    one, two = ({"version": v, "state": "AVAILABLE", "status": fine} for v in ("1", "2"))
    assert get(at(server, "")).json() == {"model_version_status": [two, one]}
    assert get(at(server, "/versions/1")).json() == {"model_version_status": [one]}
    assert get(at(server, "/labels/stable")).json() == {"model_version_status": [one]}

    described = get(at(server, "/labels/stable/metadata")).json()
    assert described["model_spec"] == {"name": "tth", "version": "1", "signature_name": ""}
    by_rest = ParseDict(described["metadata"]["signature_def"], SignatureDefMap())
    asked = GetModelMetadataRequest(
        model_spec={"name": "tth", "version_label": "stable"}, metadata_field=["signature_def"]
    )
    by_grpc = SignatureDefMap()
    assert predictions.GetModelMetadata(asked, timeout=60).metadata["signature_def"].Unpack(by_grpc)
    assert by_rest == by_grpc
    assert set(by_grpc.signature_def["serving_default"].inputs) == set(GOOD)
    asked.metadata_field.append("other")
    with pytest.raises(grpc.RpcError, match="metadata_field must be"):
        predictions.GetModelMetadata(asked, timeout=60)


# --- reloading -------------------------------------------------------------------------------


def served_version(server: TFServer, label: str | None = None) -> int:
    place = f"/labels/{label}/metadata" if label else "/metadata"
    answer = get(at(server, place))
    return int(answer.json()["model_spec"]["version"]) if answer.status_code == 200 else 0


def states(server: TFServer) -> dict[int, tuple[int, str]]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        asked = GetModelStatusRequest(model_spec={"name": "tth"})
        answer = ModelServiceStub(channel).GetModelStatus(asked, timeout=60)
    return {
        status.version: (status.state, status.status.error_message)
        for status in answer.model_version_status
    }


def test_a_promotion_reaches_a_running_server(own: Path) -> None:
    with TFServer(own, 0, 0, poll=None) as server:
        assert served_version(server, "stable") == 1
        promote(own, "tth")
        apply_rollout(server.grpc_address, own)
        assert served_version(server, "stable") == 2
        assert get(at(server, "/labels/canary/metadata")).status_code == 400
        assert states(server) == {
            1: (ModelVersionStatus.END, ""),
            2: (ModelVersionStatus.AVAILABLE, ""),
        }
        assert get(at(server, "/versions/1/metadata")).status_code == 404


def test_an_export_alone_moves_no_request_and_rollback_ends_well(own: Path) -> None:
    """Unlabelled requests follow ``stable``; what the server did by itself needs no roll-out."""
    with TFServer(own, 0, 0, poll=0.01) as server:
        assert served_version(server) == 1  # 2, the canary, is loaded too
        small_export(own, "tth")
        poll(lambda: served_version(server, "canary") == 3, 60, "the export was not noticed")
        assert served_version(server) == served_version(server, "stable") == 1
        promote(own)
        poll(lambda: served_version(server) == 3, 60, "the promotion was not served")
        rollback(own)
        poll(lambda: served_version(server) == 1, 60, "the roll-back was not served")
        assert apply_rollout(server.grpc_address, own) == []
        assert served_version(server) == 1


def test_settings_of_tls_are_refused(own: Path) -> None:
    (own / "ssl.config").touch()
    with pytest.raises(ConfigError, match=r"ssl.config: this server speaks plain HTTP and gRPC"):
        TFServer(own, 0, 0).start()


def test_clients_that_leave_are_no_fault(
    server: TFServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    host, port = server.urls["tth"].split("/")[2].split(":")
    head = b"POST /v1/models/tth:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    whole = json.dumps({"instances": rows_of(small_events(400))}).encode()
    full = head.replace(b"100", str(len(whole)).encode()) + whole
    for sent in (head, head + b'{"instances": [', full, b"POST /v1/mod", b"\x16\x03\x01\xff", b""):
        for reset in (True, False):
            with socket.create_connection((host, int(port)), timeout=10) as peer:
                peer.sendall(sent)
                if reset:  # an RST, as of a client that was killed
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with grpc.insecure_channel(server.grpc_address) as channel:
        calls = [
            PredictionServiceStub(channel).Predict.future(asked, timeout=60)
            for asked in (request(inputs_of(small_events(3000))), request({}))
            for _ in range(10)
        ]
        for call in calls:
            call.cancel()
    answer = post(server.urls["tth"], {"instances": rows_of(small_events(2))})
    assert answer.status_code == 200
    time.sleep(0.3)
    # a line for what is no HTTP at all, and nothing else
    assert {record.getMessage() for record in caplog.records} <= {"Invalid HTTP request received."}
    assert "Traceback" not in caplog.text
    assert capfd.readouterr().err == ""


CLIENT = """
import sys
for name in ("tensorflow", "tensorflow_serving", "keras", "torch"):
    sys.modules[name] = None
from hepdata_adapters.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_promotion_and_rollout_need_no_tensorflow(own: Path) -> None:
    def run(*words: str) -> str:
        path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, *words],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    with TFServer(own, 0, 0, poll=None) as server:
        assert served_version(server) == 1
        run("promote", str(own))
        said = run("rollout", str(own), server.grpc_address)
        assert f"{server.grpc_address} took " in said
        assert served_version(server) == 2
        assert "took" not in run("rollout", str(own), server.grpc_address)
        run("rollback", str(own))
        run("rollout", str(own), server.grpc_address)
        assert served_version(server) == 1


def test_messages_are_the_official_ones() -> None:
    compared = set()

    def compare(ours: Any, official: Any) -> None:
        assert ours.full_name == official.full_name
        if ours.full_name in compared:
            return
        compared.add(ours.full_name)
        for found in (ours, official):
            assert found.GetOptions().map_entry == ours.GetOptions().map_entry
        assert sorted(ours.fields_by_name) == sorted(official.fields_by_name)
        for field in official.fields:
            mine = ours.fields_by_name[field.name]
            assert (mine.number, mine.is_repeated) == (field.number, field.is_repeated)
            same = mine.type == field.type
            assert same or (field.name, mine.type) == ("error_code", mine.TYPE_INT32)
            assert (mine.enum_type is None) or (
                mine.enum_type.values_by_name.keys() == field.enum_type.values_by_name.keys()
            )
            if field.containing_oneof and not field.containing_oneof.name.startswith("_"):
                assert mine.containing_oneof.name == field.containing_oneof.name
            if field.message_type:
                compare(mine.message_type, field.message_type)

    for official in (
        ReloadConfigRequest,
        ReloadConfigResponse,
        GetModelStatusRequest,
        GetModelStatusResponse,
    ):
        compare(message(official.DESCRIPTOR.name).DESCRIPTOR, official.DESCRIPTOR)
    assert len(compared) > 20
    for name, number in (("AVAILABLE", AVAILABLE), ("END", END)):
        assert ModelVersionStatus.State.Value(name) == number


def test_the_folder_is_watched(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with TFServer(own, 0, 0, poll=0.01) as server:
        promote(own, "tth")
        poll(lambda: served_version(server, "stable") == 2, 60, "the promotion was not served")
        config = (own / "models.config").read_text()
        (own / "models.config").write_text("model_config_list { config {")
        said = []

        def complained() -> bool:
            said.append(capfd.readouterr().err)
            return "models.config is no ModelServerConfig" in "".join(said)

        poll(complained, 60, "nothing was said of the broken config")
        assert served_version(server, "stable") == 2
        (own / "models.config").write_text(config.replace("stable", "best"))
        poll(
            lambda: get(at(server, "/labels/best")).status_code == 200, 60,
            "the repaired config was not served",
        )  # fmt: skip


def test_a_label_needs_a_loaded_version(own: Path) -> None:
    (model,) = read_config(own).model_config_list.config
    with TFServer(own, 0, 0, poll=None) as server:
        with grpc.insecure_channel(server.grpc_address) as channel:
            service = ModelServiceStub(channel)

            def send(versions: list[int], labels: dict[str, int]) -> None:
                asked = ReloadConfigRequest()
                entry = asked.config.model_config_list.config.add()
                entry.CopyFrom(model)
                entry.model_version_policy.specific.versions[:] = versions
                entry.version_labels.clear()
                entry.version_labels.update(labels)
                service.HandleReloadConfigRequest(asked, timeout=60)

            send([1], {"stable": 1})
            for versions in ([1], [1, 2]):
                # TF Serving sets labels first, so a version cannot be loaded and labelled at once
                with pytest.raises(grpc.RpcError, match="version 2, which is not loaded") as error:
                    send(versions, {"stable": 2})
                assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert served_version(server, "stable") == 1
            send([1, 2], {"stable": 1})
            send([1, 2], {"stable": 2})
            assert served_version(server, "stable") == 2
            with pytest.raises(grpc.RpcError, match="no model_config_list") as error:
                service.HandleReloadConfigRequest(ReloadConfigRequest(), timeout=60)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        # a start, and a reload of the folder, load first
        server.reload()
        assert served_version(server, "canary") == 2


def serve_only_version_1(folder: Path) -> str:
    """Write such a config; returns the one of both versions that was there."""
    path = folder / "models.config"
    both = path.read_text()
    config = read_config(folder)
    (model,) = config.model_config_list.config
    model.model_version_policy.specific.versions[:] = [1]
    del model.version_labels["canary"]
    path.write_text(str(config))
    return both


def test_a_new_version_is_loading_until_it_is_served(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = serve_only_version_1(own)
    with TFServer(own, 0, 0, poll=None) as server:
        assert states(server) == {1: (ModelVersionStatus.AVAILABLE, "")}
        seen: list[Any] = []

        def watched(*arguments: Any) -> Any:
            seen.append((states(server), get(at(server, "/versions/2/metadata")).status_code))
            return servable.load(*arguments)

        monkeypatch.setattr(engine, "load", watched)
        (own / "models.config").write_text(both)
        server.reload()
        states_then, answered = seen.pop()
        assert states_then[1] == (ModelVersionStatus.AVAILABLE, "")
        assert states_then[2] == (ModelVersionStatus.LOADING, "")
        assert answered == 404
        assert states(server)[2] == (ModelVersionStatus.AVAILABLE, "")
        server.reload()
        assert not seen  # what is loaded is not loaded again


def seal(version: Path) -> None:
    """Make the hashes of a version fit what it holds now."""
    sums = version / "assets.extra" / "SHA256SUMS"
    sums.unlink()
    sums.write_text(folder_sums(version))


@pytest.mark.parametrize("fault", ["golden", "flipped", "graph", "gone"])
def test_a_broken_version_is_refused_and_the_old_ones_keep_serving(fault: str, own: Path) -> None:
    version = own / "models" / "tth" / "2"
    config = serve_only_version_1(own)
    if fault == "golden":
        path = version / "assets.extra" / "golden.json"
        golden = json.loads(path.read_text())
        golden["predictions"][2] = 0.125
        path.write_text(json.dumps(golden))
        seal(version)
        message = r"golden event 2: the model predicts .*, not 0.125"
    elif fault == "flipped":
        content = bytearray((version / "variables/variables.data-00000-of-00001").read_bytes())
        content[len(content) // 2] ^= 1
        (version / "variables/variables.data-00000-of-00001").write_bytes(content)
        message = (
            "version 2 of model 'tth' in .*variables.data-.* is not the file that was exported"
        )
    elif fault == "graph":
        content = (version / "saved_model.pb").read_bytes()
        (version / "saved_model.pb").write_bytes(content[: len(content) // 2])
        seal(version)
        message = "version 2 of model 'tth' in .* cannot be loaded"
    else:
        (version / "saved_model.pb").unlink()
        seal(version)
        message = "is incomplete: there is no saved_model.pb"
    with TFServer(own, 0, 0, poll=None) as server:
        (own / "models.config").write_text(config)
        with pytest.raises(ArchiveError, match=message):
            server.reload()
        assert states(server)[1] == (ModelVersionStatus.AVAILABLE, "")
        state, error = states(server)[2]
        assert state == ModelVersionStatus.END
        assert "version 2 of model 'tth'" in error
        events = small_events(3)
        served = client.predict(server.urls["tth"], events)
        np.testing.assert_allclose(served, expected(events, 1), rtol=0, atol=1e-6)
    with pytest.raises(ArchiveError, match=message):
        TFServer(own, 0, 0).start()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("versions: 2", "versions: 9", "version 9 of model 'tth' is not in"),
        ('"canary"\n      value: 2', '"canary"\n      value: 9', "version 9, which is not loaded"),
        ('name: "tth"', 'name: "../tth"', "a model cannot be called '../tth'"),
        ('name: "tth"', 'name: "other"', "model 'other' has the base_path"),
        ('"tensorflow"', '"other"', "is of platform 'other'"),
        ("model_config_list {", "model_list {", "is no ModelServerConfig"),
        ("config {", 'config { name: "tth" base_path: "tth" model_platform: "tensorflow" }'
         " config {", "stands twice"),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense(old: str, new: str, message: str, own: Path) -> None:
    config = (own / "models.config").read_text()
    assert old in config
    (own / "models.config").write_text(config.replace(old, new, 1).replace("_list config", "_list"))
    with pytest.raises((ConfigError, ServerError), match=message):
        TFServer(own, 0, 0).start()


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no models.config; make one with"):
        TFServer(tmp_path).start()


# --- start and stop ----------------------------------------------------------------------------


def test_stop_leaves_no_thread_and_no_port(exported: Path) -> None:
    before = set(threading.enumerate())
    port = free_port()
    server = TFServer(exported, port, 0, poll=60)
    with pytest.raises(ServerError, match="not running"):
        _ = server.urls
    with server:
        assert server.urls["tth"] == f"http://127.0.0.1:{port}/v1/models/tth:predict"
        assert server.url == server.urls["tth"]
        with pytest.raises(ServerError, match="already running"):
            server.start()
        with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1 is in use"):
            TFServer(exported, port, 0).start()
        taken = int(server.grpc_address.rpartition(":")[2])
        with pytest.raises(ServerError, match=f"port {taken} on 127.0.0.1 is in use"):
            TFServer(exported, 0, taken).start()
        with requests.Session() as kept_alive:
            kept_alive.post(server.urls["tth"], json={"inputs": GOOD}, timeout=60)
            server.stop()
    assert set(threading.enumerate()) == before
    for number in (port, taken):
        with pytest.raises(requests.ConnectionError):
            get(f"http://127.0.0.1:{number}/")
    server.stop()  # harmless
    with server:  # and it can start again
        assert client.predict(server.urls["tth"], small_events(1))


def test_a_signal_ends_serve(exported: Path) -> None:
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(exported)],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            lines: queue.Queue[str] = queue.Queue()
            reader = threading.Thread(target=lambda: [lines.put(x) for x in process.stdout or ()])
            reader.start()
            ready = [lines.get(timeout=120).strip() for _ in range(2)]
            assert re.fullmatch(r"ready: http://127\.0\.0\.1:\d+/v1/models/tth:predict", ready[0])
            assert re.fullmatch(r"ready: grpc 127\.0\.0\.1:\d+", ready[1])
            url = ready[0].removeprefix("ready: ")
            assert len(client.predict(url, small_events(3))) == 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            reader.join(60)
            assert lines.empty()
            assert process.stderr
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


# --- the client --------------------------------------------------------------------------------


def test_the_client_names_event_and_branch(server: TFServer) -> None:
    url = server.urls["tth"]
    events = small_events(10)

    def with_event_7(**change: Any) -> list[dict[str, Any]]:
        return [*events[:7], events[7] | change, *events[8:]]

    without = [*events[:7], {k: v for k, v in events[7].items() if k != "HT"}, *events[8:]]
    with pytest.raises(EventError, match="event 7: branch 'HT' is missing; there are: Jet_pt"):
        client.predict(url, without, batch=4)
    with pytest.raises(EventError, match="event 7: branch 'vertex' takes 3 numbers, not 1"):
        client.predict(url, with_event_7(vertex=[1.0]), batch=4)
    # these two only the server knows
    with pytest.raises(EventError, match=r"event 7: HT holds NaN or infinity$"):
        client.predict(url, with_event_7(HT=None))
    with pytest.raises(EventError, match=r"event 7: Lep_eta has 3 values, at most 2 fit$"):
        client.predict(url, with_event_7(Lep_eta=np.ones(3, np.float32)))


def test_a_file_with_an_event_that_is_refused(
    server: TFServer, tmp_path: Path, make_file: Any
) -> None:
    file = make_file(MET=np.ones(5, np.float32))
    with pytest.raises(
        DataError, match=r"the server refused event 0: branch .* is missing; there are: MET "
    ):
        predict_remote(server.urls["tth"], [str(file)], tmp_path / "out.root", lambda *_: None)


def test_the_client_sends_parts_that_are_small_enough(
    server: TFServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = small_events(30, seed=9)
    events[11] |= {"Jet_pt": [50.0] * 300}
    whole = client.predict(server.urls["tth"], events)
    np.testing.assert_allclose(whole, expected(events), rtol=0, atol=1e-6)
    sent: list[int] = []
    send = client.send

    def counted(*arguments: Any) -> Any:
        sent.append(len(arguments[3]) if len(arguments) > 3 else 0)
        return send(*arguments)

    monkeypatch.setattr(client, "send", counted)
    monkeypatch.setattr(client, "MAX_NUMBERS", 400)
    parts = client.predict(server.urls["tth"], events)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)
    assert len(sent) > 4
    assert max(sent) < 400 * 26
    events[11] |= {"Jet_pt": [50.0] * 3000}
    with pytest.raises(EventError, match="event 11 cannot be sent: it has 3010 numbers"):
        client.predict(server.urls["tth"], events)


def test_branches_whose_names_no_input_can_have(tmp_path: Path) -> None:
    vector = VectorTransform(
        features=(
            FeatureTransform(branch="Jet.pt", kind="jagged", dtype="float32", width=2),
            FeatureTransform(branch="lambda", kind="flat", dtype="float32", width=1),
        )
    )
    transform = Transform.of_vector(vector)
    scorer = small_scorer(3)
    events = [{"lambda": 0.5, "Jet.pt": [1.0], "other": 1}, {"lambda": 0.1, "Jet.pt": []}]
    wanted = offline(scorer, transform, events)
    small_export(
        tmp_path, transform=transform, scorer=scorer,
        golden_events=events, golden_predictions=wanted,
    )  # fmt: skip
    with TFServer(tmp_path, 0, 0, poll=None) as server:
        served = client.predict(server.url, events)
    np.testing.assert_allclose(served, wanted, rtol=0, atol=1e-6)


def test_the_client_says_what_is_wrong_with_the_server(server: TFServer) -> None:
    url = server.urls["tth"]
    assert client.predict(url, []) == []
    with pytest.raises(ServerError, match=r"metadata answered 404: no model 'nothing'"):
        client.predict(url.replace("tth", "nothing"), small_events(1))
    with pytest.raises(ServerError, match="is the server running"):
        client.predict(f"http://127.0.0.1:{free_port()}/v1/models/x:predict", small_events(1))
    with pytest.raises(ConfigError, match="it ends in ':predict'"):
        client.predict(at(server, ""), small_events(1))
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        client.predict(url, small_events(1), batch=0)
