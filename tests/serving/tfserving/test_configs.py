"""Configs and README of an export fit TF Serving: official protobufs, commands, the server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.tfserving.readme import rest_row
from hepdata_serving.tfserving.saved_model import Signatures, load_signatures
from tests.helpers.tfserving import TRANSFORM, exported_models, inputs_of
from tests.helpers.tfserving_example import offline, small_events, small_export, small_scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_models(tmp_path_factory)


@pytest.fixture(scope="module")
def signatures(folder: Path) -> Signatures:
    return load_signatures(folder / "models" / "tth" / "2")


# --- configs, with the official protobufs ------------------------------------------------------


def test_models_config_is_official(folder: Path) -> None:
    config = text_format.Parse((folder / "models.config").read_text(), ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == "tth"
    assert Path(model.base_path) == folder / "models" / "tth"
    assert Path(model.base_path).is_absolute()
    assert model.model_platform == "tensorflow"
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}


def message_class(name: str, *messages: dict[str, tuple[int, str]]) -> Any:
    """The first of some proto3 messages, given as field → (number, type), nested by position.

    ``tensorflow-serving-api`` lacks these; names and numbers are those of TF Serving's
    ``session_bundle_config.proto`` and ``monitoring_config.proto``.
    """
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="test", syntax="proto3")
    file.dependency.append(wrappers.DESCRIPTOR.name)
    for number, fields in enumerate(messages):
        message = file.message_type.add(name=f"{name}{number or ''}")
        for field, (index, kind) in fields.items():
            added = message.field.add(name=field, number=index, label=field_type.LABEL_OPTIONAL)
            if kind == "repeated int64":
                added.type, added.label = field_type.TYPE_INT64, field_type.LABEL_REPEATED
            elif kind == "bool":
                added.type = field_type.TYPE_BOOL
            elif kind == "string":
                added.type = field_type.TYPE_STRING
            else:
                added.type, added.type_name = field_type.TYPE_MESSAGE, kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}"))


def test_batching_config_has_the_official_fields(folder: Path) -> None:
    int64, boolean = ".google.protobuf.Int64Value", ".google.protobuf.BoolValue"
    message = message_class(
        "BatchingParameters",
        {
            "max_batch_size": (1, int64),
            "batch_timeout_micros": (2, int64),
            "max_enqueued_batches": (3, int64),
            "num_batch_threads": (4, int64),
            "thread_pool_name": (5, ".google.protobuf.StringValue"),
            "allowed_batch_sizes": (6, "repeated int64"),
            "pad_variable_length_inputs": (7, "bool"),
            "enable_large_batch_splitting": (8, boolean),
            "max_execution_batch_size": (9, int64),
        },
    )
    parsed = text_format.Parse((folder / "batching.config").read_text(), message())
    assert parsed.max_batch_size.value >= 64  # the largest warm-up request
    assert parsed.batch_timeout_micros.value > 0
    assert parsed.pad_variable_length_inputs


def test_monitoring_config_has_the_official_fields(folder: Path) -> None:
    message = message_class(
        "MonitoringConfig",
        {"prometheus_config": (1, ".test.MonitoringConfig1")},
        {"enable": (1, "bool"), "path": (2, "string")},
    )
    parsed = text_format.Parse((folder / "monitoring.config").read_text(), message())
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path == "/monitoring/prometheus/metrics"


# --- README ------------------------------------------------------------------------------------


def command_of(readme: str, program: str) -> list[str]:
    """The words of the command of a README that starts so."""
    (block,) = re.findall(rf"```\n({re.escape(program)} .*?)```", readme, re.DOTALL)
    return shlex.split(block.replace("\\\n", " "))


def test_readme_example_is_valid_json_that_the_model_answers(
    folder: Path, signatures: Signatures
) -> None:
    command = command_of((folder / "README.md").read_text(), "curl")
    assert command[1].endswith("/v1/models/tth/labels/stable:predict")

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    (row,) = json.loads(command[-1], parse_constant=refuse)["instances"]
    specs = inputs_of(small_events(1))
    assert list(row) == list(specs)
    inputs = {name: np.array([row[name]], values.dtype) for name, values in specs.items()}
    assert np.isfinite(signatures.raw(inputs)).all()


def test_readme_commands_name_files_that_exist(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    for program in ("tensorflow_model_server", "docker"):
        options = dict(
            word[2:].split("=", 1) for word in command_of(readme, program) if "config" in word
        )
        assert len(options) == 3
        assert all(Path(path).is_file() for path in options.values())
        assert "--allow_version_labels_for_unavailable_models=true" in readme
    assert "| `Jet_pt` | float32 | (n, m) |" in readme
    assert "Nothing was proven against the C++" in readme


def test_a_branch_of_a_type_that_rest_cannot_carry_is_widened(tmp_path: Path) -> None:
    feature = FeatureTransform(branch="hits", kind="flat", dtype="uint16", width=1)
    transform = Transform.of_vector(VectorTransform(features=(feature,)))
    scorer, events = small_scorer(1), [{"hits": 3}]
    predictions = offline(scorer, transform, events)
    small_export(
        tmp_path,
        scorer=scorer,
        transform=transform,
        golden_events=events,
        golden_predictions=predictions,
    )
    readme = (tmp_path / "README.md").read_text()
    assert "| `hits` | int32 | (n,) |" in readme
    assert '{"instances": [{"hits": 3}]}' in readme


# --- the real server, where there is one -------------------------------------------------------


@pytest.mark.skipif(
    shutil.which("tensorflow_model_server") is None,
    reason="tensorflow_model_server is not on PATH: nothing is proven against the C++ server",
)
def test_the_cpp_server_gives_the_golden_predictions(folder: Path, tmp_path: Path) -> None:
    def free_port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    grpc_port, rest_port = free_port(), free_port()
    command = command_of((folder / "README.md").read_text(), "tensorflow_model_server")
    command = [
        word.replace("=8500", f"={grpc_port}").replace("=8501", f"={rest_port}") for word in command
    ]
    url = f"http://127.0.0.1:{rest_port}/v1/models/tth"
    log = (tmp_path / "log").open("w+")
    server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, Path(log.name).read_text()
            try:
                if requests.get(f"{url}/labels/canary", timeout=5).ok:
                    break
            except requests.ConnectionError:
                pass
            time.sleep(0.2)
        extra = folder / "models" / "tth" / "2" / "assets.extra"
        golden = json.loads((extra / "golden.json").read_text())
        for event, wanted in zip(golden["events"], golden["predictions"], strict=True):
            body = json.dumps({"instances": [rest_row(event, TRANSFORM)]})
            answer = requests.post(f"{url}/labels/canary:predict", data=body, timeout=30)
            assert answer.json()["predictions"] == pytest.approx([wanted], abs=1e-6)
    finally:
        server.terminate()
        server.wait(30)
        log.close()
