"""The official gRPC stubs and REST get the offline predictions, and TF Serving's codes."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving")

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.json_format import ParseDict
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_serving.tfserving import client
from hepdata_serving.tfserving.protocol import AVAILABLE, END, message
from hepdata_serving.tfserving.server import TFServer
from tests.helpers.tfserving import (
    GOOD,
    MISSING,
    at,
    expected,
    get,
    inputs_of,
    post,
    rows_of,
    serve_models,
)
from tests.helpers.tfserving_example import small_events, small_transform


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TFServer]:
    with serve_models(tmp_path_factory) as running:
        yield running


@pytest.fixture
def channel(server: TFServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as opened:
        yield opened


@pytest.fixture
def predictions(channel: grpc.Channel) -> PredictionServiceStub:
    return PredictionServiceStub(channel)


def request(inputs: dict[str, Any], **spec: Any) -> PredictRequest:
    tensors = {name: tf.make_tensor_proto(values) for name, values in inputs.items()}
    return PredictRequest(model_spec=ModelSpec(**{"name": "tth", **spec}), inputs=tensors)


# --- predictions -------------------------------------------------------------------------------


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


# --- what is refused ---------------------------------------------------------------------------


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


# --- messages ----------------------------------------------------------------------------------


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
