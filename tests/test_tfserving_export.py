"""SavedModels and configs for TF Serving, checked with its official protobufs. No server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.apis.model_service_pb2_grpc import (
    ModelServiceServicer,
    add_ModelServiceServicer_to_server,
)
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.scaling import FeatureTransform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_serving.errors import ArchiveError, ExportError, ServerError
from hepdata_serving.tfserving.export import predict_raw
from hepdata_serving.tfserving.readme import rest_row, write_readme
from hepdata_serving.tfserving.reload import apply_rollout
from hepdata_serving.tfserving.saved_model import Signatures, load_signatures
from hepdata_serving.tfserving.states import sequence
from hepdata_serving.tfserving.versions import announce, promote, rollback, served_versions
from hepdata_serving.versions import Versions
from tests.tfserving_example import (
    offline,
    small_events,
    small_export,
    small_scorer,
    small_transform,
)

TRANSFORM = small_transform()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second version of a model."""
    return small_export(tmp_path_factory.mktemp("exported"), versions=2)


@pytest.fixture(scope="module")
def folder(exported: Path) -> Path:
    return exported.parents[2]


@pytest.fixture(scope="module")
def signatures(exported: Path) -> Signatures:
    return load_signatures(exported)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def inputs_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    columns, faults = columns_from_events(events, TRANSFORM)
    assert not faults
    return dense_inputs(columns, TRANSFORM)


# --- the SavedModel ---------------------------------------------------------------------------


def test_folder_is_what_tf_serving_expects(folder: Path) -> None:
    extra = {
        "SHA256SUMS",
        "transform.json",
        "golden.json",
        "metadata.json",
        "tf_serving_warmup_requests",
    }
    for version in ("1", "2"):
        assert files_in(folder / "models" / "tth" / version) == {
            "saved_model.pb",
            "fingerprint.pb",
            "variables/variables.index",
            "variables/variables.data-00000-of-00001",
            *(f"assets.extra/{name}" for name in extra),
        }
    assert {path.name for path in folder.iterdir()} == {
        "models",
        "rollout",
        "README.md",
        "models.config",
        "batching.config",
        "monitoring.config",
    }
    about = json.loads((folder / "models/tth/2/assets.extra/metadata.json").read_text())
    assert (about["name"], about["version"], about["outputs"]) == ("tth", "2", ["class0"])
    assert about["tensorflow"] == tf.__version__


def test_signatures_have_the_names_dtypes_and_shapes_of_the_branches(exported: Path) -> None:
    loaded = tf.saved_model.load(str(exported))
    _, inputs = loaded.signatures["serving_default"].structured_input_signature
    assert {name: (spec.dtype.name, spec.shape.as_list()) for name, spec in inputs.items()} == {
        "MET": ("float32", [None]),
        "event_number": ("int64", [None]),
        "HT": ("float64", [None]),
        "trigger": ("bool", [None]),
        "vertex": ("float32", [None, 3]),
        "Jet_pt": ("float32", [None, None]),
        "Jet_pt_length": ("int64", [None]),
        "Lep_eta": ("float32", [None, None]),
        "Lep_eta_length": ("int64", [None]),
    }
    _, inputs = loaded.signatures["prepared"].structured_input_signature
    assert inputs["x"].shape.as_list() == [None, TRANSFORM.num_features]
    for signature in loaded.signatures.values():
        assert signature.structured_outputs["score"].dtype == tf.float32
        assert signature.structured_outputs["score"].shape.as_list() == [None]


def test_both_signatures_predict_what_the_trained_model_does(signatures: Signatures) -> None:
    events = small_events(60, seed=5)
    expected = offline(small_scorer(TRANSFORM.num_features, seed=1), TRANSFORM, events)
    np.testing.assert_allclose(predict_raw(events, TRANSFORM, signatures), expected, atol=1e-6)
    columns, _ = columns_from_events(events, TRANSFORM)
    x = TRANSFORM(TRANSFORM.prepare(columns)).arrays["x"]
    np.testing.assert_allclose(signatures.prepared(x), expected, atol=1e-6)


def test_classes_are_columns(tmp_path: Path) -> None:
    signatures = load_signatures(small_export(tmp_path, classes=3))
    scores = predict_raw(small_events(5), TRANSFORM, signatures)
    assert np.sum(scores, axis=1) == pytest.approx(np.ones(5), abs=1e-6)


def test_padding_as_tf_serving_batches_does_no_harm(signatures: Signatures) -> None:
    """It pads the narrower requests of a batch with their own first value."""
    requests_ = [inputs_of(small_events(3, seed)) for seed in range(4)]
    requests_[2]["Jet_pt"][requests_[2]["Jet_pt_length"] == 0, 0] = np.nan
    batch = {}
    for name in requests_[0]:
        parts = [request[name] for request in requests_]
        if name in ("Jet_pt", "Lep_eta"):
            width = max(part.shape[1] for part in parts) + 3
            parts = [
                np.pad(p, ((0, 0), (0, width - p.shape[1])), constant_values=p.flat[0])
                for p in parts
            ]
        batch[name] = np.concatenate(parts)
    alone = np.concatenate([signatures.raw(request) for request in requests_])
    np.testing.assert_allclose(signatures.raw(batch), alone, rtol=0, atol=1e-6)


def test_a_bad_value_is_an_error_that_names_the_branch(signatures: Signatures) -> None:
    inputs = inputs_of(small_events(3))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"HT holds NaN or infinity \(event 1"):
        signatures.raw(inputs | {"HT": np.array([1, np.nan, 1])})
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Jet_pt_length.* holds 99"):
        signatures.raw(inputs | {"Jet_pt" + LENGTH: np.array([0, 99, 0])})


def test_warmup_requests_run(exported: Path, signatures: Signatures) -> None:
    path = exported / "assets.extra" / "tf_serving_warmup_requests"
    sizes = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.name == "tth"
        assert request.model_spec.signature_name == "serving_default"
        assert not request.model_spec.version.value  # TF Serving warms the version it loads
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        sizes.append(len(signatures.raw(inputs)))
    assert sizes == [1, 8, 64]


# --- what is not exported ---------------------------------------------------------------------


class Untracked:
    """Callable, but nothing that TensorFlow follows to its variables."""

    def __init__(self) -> None:
        self.weight = tf.Variable(0.5)

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, 0] * self.weight


class Column(tf.Module):
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return x[:, :1]


class FixedBatch(tf.Module):
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(x, [8, None])[:, 0]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"scorer": Untracked()}, ExportError, "TensorFlow refuses Untracked"),
        ({"scorer": Column()}, ExportError, r"\(1, 1\) for 1 events, not float32 \(1,\)"),
        (
            {"scorer": FixedBatch()},
            ExportError,
            r"(?s)exported model cannot be run: .*not compatible",
        ),
        (
            {"golden_predictions": [0.5] * 8},
            ExportError,
            "not the trained one: golden event 0: the model predicts",
        ),
        (
            {"golden_events": [small_events(1)[0] | {"HT": None}], "golden_predictions": [0.5]},
            ExportError,
            "not the trained one: event 0: HT holds NaN",
        ),
        ({"golden_events": [], "golden_predictions": []}, ConfigError, "golden_events is empty"),
        ({"task": "ranking"}, ConfigError, "not one of"),
        ({"outputs": ["a", "b"]}, ConfigError, "one name, not 2"),
        ({"metadata": {"path": Path()}}, ConfigError, "is not JSON"),
        ({"name": "../up"}, ConfigError, "is not allowed"),
    ],
)
def test_a_refused_export_leaves_the_folder_as_it_was(
    changes: dict[str, Any], error: type[Exception], match: str, folder: Path
) -> None:
    before = {name: (folder / name).read_bytes() for name in files_in(folder)}
    with pytest.raises(error, match=match):
        small_export(folder, **{"name": "tth"} | changes)
    assert {name: (folder / name).read_bytes() for name in files_in(folder)} == before


def test_a_folder_that_is_no_savedmodel(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="is not a SavedModel"):
        load_signatures(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "other"))
    with pytest.raises(ArchiveError, match="lacks the signature 'prepared'"):
        load_signatures(tmp_path / "other")


# --- configs, with the official protobufs -----------------------------------------------------


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


# --- README -----------------------------------------------------------------------------------


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


def test_a_model_that_was_not_exported_here_is_named(tmp_path: Path) -> None:
    add_version(tmp_path, 1, "foreign")
    with pytest.raises(ArchiveError, match=r"foreign/1 was not written by this package"):
        write_readme(tmp_path)


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


# --- versions ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["export", "promote", "rollback"]), max_size=25))
def test_labels_are_always_on_versions_loaded_before(actions: list[str]) -> None:
    state: Versions | None = None
    loaded: set[int] = set()
    newest = 0
    for action in actions:
        before = state
        try:
            if action == "export":
                newest += 1
                state = state.exported(newest) if state else Versions(newest)
            elif state:
                state = state.promoted() if action == "promote" else state.rolled_back()
        except ConfigError:
            assert (state.canary if action == "promote" else state.earlier) in (None, ())
        if state is None or state == before:
            continue
        for step in sequence("m", before, state):
            assert set(step.model.labels.values()) <= loaded & set(step.model.versions)
            if before:
                assert "stable" in step.model.labels
            loaded = set(step.model.versions)
            assert len(loaded) <= 3
        assert loaded == set(state.served)
        assert step.model.labels == state.labels
        assert len(loaded) <= 2
        assert list(state.earlier) == sorted(set(state.earlier))
        assert all(version < state.stable for version in state.earlier)


def add_version(folder: Path, version: int, name: str = "m") -> list[Path]:
    (folder / "models" / name / str(version)).mkdir(parents=True)
    return announce(folder, name, version)


def steps_in(paths: list[Path], name: str = "m") -> list[tuple[str, list[int], dict[str, int]]]:
    steps = []
    for path in paths:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
        (model,) = [m for m in config.model_config_list.config if m.name == name]
        versions = list(model.model_version_policy.specific.versions)
        steps.append((path.name, versions, dict(model.version_labels)))
    return steps


def test_promotion_and_rollback_on_disk(tmp_path: Path) -> None:
    assert steps_in(add_version(tmp_path, 1)) == [
        ("01-load-m.config", [1], {}),
        ("02-label-m.config", [1], {"stable": 1}),
    ]
    assert steps_in(add_version(tmp_path, 2)) == [
        ("01-load-m.config", [1, 2], {"stable": 1}),
        ("02-label-m.config", [1, 2], {"stable": 1, "canary": 2}),
    ]
    # a new canary takes the place of the one that was never promoted
    assert steps_in(add_version(tmp_path, 3)) == [
        ("01-load-m.config", [1, 2, 3], {"stable": 1, "canary": 2}),
        ("02-label-m.config", [1, 2, 3], {"stable": 1, "canary": 3}),
        ("03-unload-m.config", [1, 3], {"stable": 1, "canary": 3}),
    ]
    assert steps_in(promote(tmp_path)) == [
        ("01-label-m.config", [1, 3], {"stable": 3}),
        ("02-unload-m.config", [3], {"stable": 3}),
    ]
    # back to what was stable, not to the version below, which never was
    back = rollback(tmp_path, "m")
    assert steps_in(back) == [
        ("01-load-m.config", [1, 3], {"stable": 3}),
        ("02-label-m.config", [1, 3], {"stable": 1}),
        ("03-unload-m.config", [1], {"stable": 1}),
    ]
    assert sorted((tmp_path / "rollout").iterdir()) == back
    assert back[-1].read_bytes() == (tmp_path / "models.config").read_bytes()
    with pytest.raises(ConfigError, match="no version before 1 was ever stable"):
        rollback(tmp_path)
    with pytest.raises(ConfigError, match="there is no canary to promote"):
        promote(tmp_path)
    add_version(tmp_path, 4)
    promote(tmp_path)
    assert served_versions(tmp_path) == {"m": Versions(4, None, (1,))}


def test_models_of_one_folder_are_independent(tmp_path: Path) -> None:
    add_version(tmp_path, 1, "a")
    add_version(tmp_path, 1, "b")
    paths = add_version(tmp_path, 2, "b")
    assert {step[1:] == ([1], {"stable": 1}) for step in steps_in(paths, "a")} == {True}
    with pytest.raises(ConfigError, match=r"name one of the models in .*: a, b"):
        promote(tmp_path)
    with pytest.raises(ConfigError, match="serves no model 'c'"):
        promote(tmp_path, "c")
    promote(tmp_path, "b")
    assert served_versions(tmp_path) == {"a": Versions(1), "b": Versions(2, None, (1,))}


def test_an_interrupted_promotion_can_be_repeated(tmp_path: Path) -> None:
    add_version(tmp_path, 1)
    add_version(tmp_path, 2)
    before = (tmp_path / "models.config").read_bytes()
    promote(tmp_path)
    (tmp_path / "models.config").write_bytes(before)
    assert served_versions(tmp_path) == {"m": Versions(1, 2)}
    promote(tmp_path)
    assert served_versions(tmp_path) == {"m": Versions(2, None, (1,))}


def test_corrupt_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serves no model: it has no models.config"):
        promote(tmp_path)
    add_version(tmp_path, 1)
    add_version(tmp_path, 2)
    promote(tmp_path)
    good = (tmp_path / "models.config").read_text()
    entry = good.removeprefix("model_config_list {\n").removesuffix("}\n")
    for bad, match in [
        (good[:50], "models.config is corrupt"),
        (good.replace('"stable"', '"blue"'), "has the labels blue, not stable"),
        (good.replace("value: 2", "value: 7"), "labels a version that is not served"),
        (good.replace("2", "7"), "version 7 of 'm' is not in"),
        (good.replace(entry, entry + entry), "stands twice"),
    ]:
        (tmp_path / "models.config").write_text(bad)
        with pytest.raises(ArchiveError, match=match):
            rollback(tmp_path)
        with pytest.raises(ArchiveError, match=match):
            small_export(tmp_path, "m")
    (tmp_path / "models.config").write_text(good)
    for bad in ("{", "[]", "{}", '{"earlier": [2, 1]}', '{"earlier": ["x"]}', '{"earlier": 1}'):
        (tmp_path / "models" / "m" / "stable.json").write_text(bad)
        with pytest.raises(ArchiveError, match=r"stable.json is corrupt"):
            rollback(tmp_path)


# --- a running server takes the sequence ------------------------------------------------------


class LabelChecks(ModelServiceServicer):
    """TF Serving's rule: labels are checked before a config's versions are loaded."""

    def __init__(self) -> None:
        self.loaded: set[int] = set()
        self.labels: dict[str, int] = {}
        self.broken: set[int] = set()

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        (model,) = request.config.model_config_list.config
        answer = model_management_pb2.ReloadConfigResponse()
        for version in model.version_labels.values():
            if version not in self.loaded:
                answer.status.error_code = 9
                answer.status.error_message = f"version {version} is not currently available"
                return answer
        self.loaded = set(model.model_version_policy.specific.versions)
        self.labels = dict(model.version_labels)
        return answer

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        spec = request.model_spec
        state = get_model_status_pb2.ModelVersionStatus
        answer = get_model_status_pb2.GetModelStatusResponse()
        if spec.version_label and spec.version_label not in self.labels:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unrecognized label")
        wanted = self.labels.get(spec.version_label, spec.version.value)
        for version in sorted({wanted} if wanted else self.loaded):
            answer.model_version_status.add(
                version=version, state=state.END if version in self.broken else state.AVAILABLE
            )
        return answer


@pytest.fixture
def running() -> Iterator[tuple[str, LabelChecks]]:
    service = LabelChecks()
    server = grpc.server(ThreadPoolExecutor(2))
    add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", service
    server.stop(None).wait()


def test_a_running_server_takes_every_rollout(
    tmp_path: Path, running: tuple[str, LabelChecks]
) -> None:
    target, service = running
    changes: list[Callable[[], list[Path]]] = [
        lambda: add_version(tmp_path, 1),
        lambda: add_version(tmp_path, 2),
        lambda: promote(tmp_path),
        lambda: add_version(tmp_path, 3),
        lambda: add_version(tmp_path, 4),
        lambda: rollback(tmp_path),
    ]
    for change in changes:
        paths = change()
        assert apply_rollout(target, tmp_path) == paths
        state = served_versions(tmp_path)["m"]
        assert (service.loaded, service.labels) == (set(state.served), state.labels)
        assert apply_rollout(target, tmp_path) == []  # it is there already


def test_a_server_that_refuses_or_fails_is_reported(
    tmp_path: Path, running: tuple[str, LabelChecks]
) -> None:
    target, service = running
    with pytest.raises(ConfigError, match="holds no config to send"):
        apply_rollout(target, tmp_path)
    first, last = add_version(tmp_path, 1)
    service.broken = {1}
    with pytest.raises(ServerError, match=r"01-load-m.config: version 1 of 'm' failed to load"):
        apply_rollout(target, tmp_path)
    first.unlink()
    service.loaded = set()
    with pytest.raises(ServerError, match=r"02-label-m.config: version 1 is not currently availab"):
        apply_rollout(target, tmp_path)
    last.write_text("nonsense")
    with pytest.raises(ArchiveError, match=r"02-label-m.config is corrupt"):
        apply_rollout(target, tmp_path)


# --- the real server, where there is one ------------------------------------------------------


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
