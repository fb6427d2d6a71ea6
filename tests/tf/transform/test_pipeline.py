"""The whole transform with TensorFlow: numpy, the Keras layer and a SavedModel give the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from hepdata_adapters.cli.main import main  # noqa: E402
from hepdata_adapters.common.core.columns import take_all  # noqa: E402
from hepdata_adapters.common.core.errors import ConfigError  # noqa: E402
from hepdata_adapters.common.inference.raw_events import columns_from_events  # noqa: E402
from hepdata_adapters.common.transform.pipeline import Transform  # noqa: E402
from hepdata_adapters.common.transform.ragged import RaggedTransform  # noqa: E402
from hepdata_adapters.common.transform.scalings.registered import scaling_function  # noqa: E402
from hepdata_adapters.common.transform.vector import VectorTransform  # noqa: E402
from hepdata_adapters.tf import root_dataset  # noqa: E402
from hepdata_adapters.tf.data.ragged import to_ragged  # noqa: E402
from hepdata_adapters.tf.training.run_folder import load_run  # noqa: E402
from hepdata_adapters.tf.transform.event_transform import EventTransform, input_signature  # noqa: E402
from hepdata_serving.answers import predict_events  # noqa: E402
from hepdata_serving.from_run import export_run  # noqa: E402
from hepdata_serving.tfserving import client  # noqa: E402
from hepdata_serving.tfserving.export import predict_raw  # noqa: E402
from hepdata_serving.tfserving.saved_model import load_signatures, save_model  # noqa: E402
from hepdata_serving.tfserving.server import TFServer  # noqa: E402
from tests.helpers.exporters import export_tfserving  # noqa: E402
from tests.helpers.pipelines import (  # noqa: E402
    EVENTS,
    TRANSFORM,
    assert_same,
    columns_of,
    dense,
    flattened,
    made_events,
    scaled,
)
from tests.helpers.samples import write_events  # noqa: E402


class Rows(keras.layers.Layer):
    """All arrays as one row: what a served model sees."""

    def call(self, inputs: Any) -> Any:
        flat = [tf.reshape(v, [tf.shape(v)[0], int(np.prod(v.shape[1:]))]) for v in inputs.values()]
        return tf.concat([tf.cast(values, tf.float32) for values in flat], 1)


@pytest.fixture(scope="module")
def layer() -> Any:
    events = EventTransform(TRANSFORM)
    return tf.function(events.call, input_signature=[input_signature(TRANSFORM)])


def good_events(events: list[dict[str, Any]]) -> list[int]:
    _, faults = columns_from_events(events, TRANSFORM)
    return [row for row in range(len(events)) if row not in faults]


@settings(deadline=None, max_examples=60)
@given(EVENTS)
def test_the_layer_agrees_with_numpy(layer: Any, events: list[dict[str, Any]]) -> None:
    good = good_events(events)
    if len(good) < len(events):
        with pytest.raises(tf.errors.InvalidArgumentError):
            layer(dense(events))
    events = [events[row] for row in good]
    if not events:
        return
    expected: Any = TRANSFORM(TRANSFORM.prepare(columns_of(events))).arrays
    assert_same(layer(dense(events)), list(range(len(events))), expected)


def test_ten_thousand_events_through_the_layer_and_a_saved_model(tmp_path: Path) -> None:
    events, unequal = made_events(10_000, seed=1)
    equal = np.setdiff1d(np.arange(len(events)), unequal)
    prepared = TRANSFORM.prepare(columns_of([events[row] for row in equal]))
    refused = sorted({fault.row for fault in TRANSFORM.faults(prepared)})
    kept = np.setdiff1d(np.arange(len(equal)), refused)
    expected: Any = TRANSFORM(take_all(prepared, kept)).arrays
    good = [events[row] for row in equal[kept]]
    inputs = dense(good)
    assert_same(EventTransform(TRANSFORM)(inputs), list(range(len(good))), expected)
    save_model(tmp_path / "model", TRANSFORM, Rows())
    signatures = load_signatures(tmp_path / "model")
    np.testing.assert_allclose(signatures.raw(inputs), flattened(expected), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(signatures.prepared(expected), flattened(expected), rtol=1e-6)
    for row in refused[:20]:
        with pytest.raises(tf.errors.InvalidArgumentError):
            signatures.raw(dense([events[equal[row]]]))


def test_a_ragged_representation_has_no_layer() -> None:
    feature = scaled("pt", "jagged")
    transform = Transform.of_vector(VectorTransform(features=(feature,))).model_copy(
        update={"inputs": {"tracks": RaggedTransform(features=(feature,))}}
    )
    with pytest.raises(ConfigError, match="'tracks' is ragged"):
        EventTransform(transform)


def test_a_function_of_the_user_is_part_of_the_saved_model(tmp_path: Path) -> None:
    @scaling_function("tf_pipeline_signed_root")
    def signed_root(xp: Any, values: Any) -> Any:
        return xp.sign(values) * xp.sqrt(xp.abs(values))

    feature = scaled("pt", function={"kind": "registered", "name": "tf_pipeline_signed_root"})
    transform = Transform.of_vector(VectorTransform(features=(feature,)))
    scorer = keras.Sequential([keras.Input((1,)), keras.layers.Reshape(())])
    events = [{"pt": 9.0}, {"pt": -4.0}]
    wanted = [0.5, -0.75]
    path = export_tfserving(
        tmp_path, name="own", scorer=scorer, transform=transform, task="regression",
        outputs=["y"], golden_events=events, golden_predictions=wanted, metadata={},
    )  # fmt: skip
    assert predict_raw(events, transform, load_signatures(path)) == pytest.approx(wanted)


FACTORY = """
import keras

def make(shapes, num_outputs):
    jets, mask = (keras.Input(shapes[name], name=name, dtype=dtype)
                  for name, dtype in (("jets", "float32"), ("jets_mask", "bool")))
    image = keras.Input(shapes["calo"], name="calo")
    x = keras.Input(shapes["x"], name="x")
    each = keras.layers.Dense(8, "relu")(jets)
    real = keras.ops.expand_dims(keras.ops.cast(mask, "float32"), -1)
    kept = keras.layers.Multiply()([each, real])
    pooled = keras.layers.GlobalAveragePooling1D()(kept)
    seen = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 2)(image))
    joined = keras.layers.Concatenate()([x, pooled, seen])
    others = {name: keras.Input(shape, name=name) for name, shape in shapes.items()
              if name not in ("jets", "jets_mask", "calo", "x")}
    return keras.Model({"jets": jets, "jets_mask": mask, "calo": image, "x": x} | others,
                       keras.layers.Dense(num_outputs)(joined))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a Keras model on a vector, a set and an image."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "net.py").write_text(FACTORY)
    config = {
        "framework": "tf",
        "samples": [
            {"files": str(write_events(folder / f"{n}.root", 400, n)), "label": n} for n in (0, 1)
        ],
        "objects": {"Jet": {"selection": "Jet_pt > 10", "sort_by": "Jet_pt"}},
        "columns": {"HT": "sum(Jet_pt)"},
        "features": ["MET", {"branch": "HT", "scaling": "log1p"}],
        "inputs": {
            "jets": {"kind": "set", "features": ["Jet_pt"], "length": 4},
            "calo": {
                "kind": "image", "channels_last": True, "channels": ["Jet_pt", "count"],
                "axes": [{"branch": "Jet_pt", "bins": 4}, {"branch": "Jet_id", "bins": 4}],
            },
        },
        "model": {"factory": "net.py:make"},
        "training": {"epochs": 1},
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", str(folder / "config.yaml"), "-o", str(folder / "run")]) == 0
    return folder


def test_a_model_of_several_inputs_is_trained_and_served(trained: Path) -> None:
    assert main(["evaluate", str(trained / "run")]) == 0
    run = load_run(trained / "run")
    export_run(run, trained / "served", "tfserving")
    events = [
        {"MET": 12.5, "Jet_pt": [30.0, 5.0, 80.0], "Jet_id": [1, 2, 3]},
        {"MET": 1.0, "Jet_pt": [], "Jet_id": []},
    ]
    wanted = predict_events(events, run.transform, run.score)
    with TFServer(trained / "served", 0, 0, poll=None) as server:
        served = client.predict(server.url, events)
    np.testing.assert_allclose(served, wanted, rtol=0, atol=1e-6)


def test_tuples_hold_what_the_model_takes_and_ragged_values_stream(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", 300)
    jets = {"kind": "set", "features": ["Jet_pt"], "length": 2}
    options: dict[str, Any] = {"features": ["MET"], "progress": False, "batch_size": 64}
    dataset = root_dataset({str(path): 1}, inputs=None, as_="tuple", **options)
    assert next(iter(dataset))[0].shape == (64, 1)
    config = {"samples": [{"files": str(path), "label": 1}], "features": ["MET"]}
    from hepdata_adapters import DatasetConfig

    both = DatasetConfig.model_validate(
        config | {"inputs": {"jets": jets, "all": {"kind": "ragged", "features": ["Jet_pt"]}}}
    )
    source = root_dataset(both, batch_size=64, shuffle=False, progress=False)
    batch = next(iter(source))
    lists = to_ragged(batch["all"], batch["all_offsets"])
    assert lists.shape.as_list() == [64, None, 1]
    inputs, _, _ = next(iter(root_dataset(both, batch_size=64, as_="tuple", progress=False)))
    assert list(inputs) == ["x", "mask", "lengths", "jets", "jets_mask", "all", "all_offsets"]
    with pytest.raises(ConfigError, match=r"all is ragged, .* num_workers=0"):
        root_dataset(both, batch_size=64, num_workers=2, progress=False)
