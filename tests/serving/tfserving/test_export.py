"""SavedModels for TF Serving predict what the trained model does. No server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.inference.padded_inputs import LENGTH
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_serving.errors import ArchiveError, ExportError
from hepdata_serving.tfserving.export import predict_raw
from hepdata_serving.tfserving.saved_model import Signatures, load_signatures
from tests.helpers.tfserving import TRANSFORM, exported_models, inputs_of
from tests.helpers.tfserving_example import offline, small_events, small_export, small_scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_models(tmp_path_factory)


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    """The second version of the model."""
    return folder / "models" / "tth" / "2"


@pytest.fixture(scope="module")
def signatures(exported: Path) -> Signatures:
    return load_signatures(exported)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- the SavedModel ----------------------------------------------------------------------------


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


# --- what is not exported ----------------------------------------------------------------------


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
