"""Images of events: against numpy's histograms, and in every backend."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import torch
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hepdata_adapters.common.config.feature_config import ImageAxis
from hepdata_adapters.common.core.columns import Columns, Jagged, offsets_from_lengths, take_all
from hepdata_adapters.common.core.errors import BranchError, ConfigError, InvalidValueError
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform, image_edges
from hepdata_adapters.tf.transform import image as tf_image
from hepdata_adapters.tf.transform.expressions import Padded as TfPadded
from hepdata_adapters.torch.transform import image as torch_image
from hepdata_adapters.torch.transform.expressions import Padded
from tests.conftest import EXAMPLES
from tests.helpers.objects import good_rows, in_tf, in_torch, object_columns, padded

ETA = ImageBins(branch="eta", edges=tuple(np.linspace(-2.5, 2.5, 11).tolist()))
PHI = ImageBins(branch="phi", edges=(-math.pi, -2.0, 0.0, 0.1, math.pi), periodic=True)
IMAGES = {
    "plain": ImageTransform(axes=(ETA, PHI), channels=(None, "pt")),
    "leading": ImageTransform(axes=(PHI, ETA), channels=("pt",), center="leading"),
    "last": ImageTransform(axes=(ETA, PHI), channels=("pt", None, "id"), channels_last=True),
    "line": ImageTransform(axes=(ETA,)),
    "cube": ImageTransform(axes=(ETA, PHI, ETA.model_copy(update={"branch": "id"}))),
    "strict": ImageTransform(axes=(ETA, PHI), channels=("pt",), outside="error"),
}
EDGES = [*ETA.edges, *PHI.edges]
# 1e-300 stands for the neighbours of 0, as TensorFlow flushes subnormal numbers
COORDINATES = st.one_of(
    st.sampled_from(EDGES),
    st.sampled_from(EDGES).map(lambda edge: float(np.nextafter(edge, np.inf)) if edge else 1e-300),
    st.sampled_from(EDGES).map(lambda edge: float(np.nextafter(edge, -9)) if edge else -1e-300),
    st.floats(-3, 3, allow_subnormal=False),
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.sampled_from([math.nan, math.inf, -math.inf, -1e-17, 1e300, 0.0]),
)
WEIGHTS = st.one_of(
    st.floats(0, 1e3, width=32, allow_subnormal=False),
    st.floats(0, 1e3, width=32, allow_subnormal=False),
    st.floats(0, 1e3, width=32, allow_subnormal=False),
    st.sampled_from([0.0, -2.0, 3e38, math.nan, math.inf]),
)
EVENT = st.lists(st.tuples(COORDINATES, COORDINATES, WEIGHTS, st.integers(-9, 9)), max_size=6)
EVENTS = st.lists(EVENT, max_size=8)
Event = list[tuple[float, float, float, int]]


DTYPES = {"eta": np.float64, "phi": np.float64, "pt": np.float32, "id": np.int64}


def columns_of(events: list[Event]) -> Columns:
    return object_columns(events, DTYPES)


# --- numpy -----------------------------------------------------------------------------------


def histogram(event: Event, transform: ImageTransform) -> Any:
    """One event with np.histogramdd, an independent way."""
    names = ("eta", "phi", "pt", "id")
    table = np.array(event, np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        coordinates = np.stack([table[:, names.index(a.branch)] for a in transform.axes], 1)
        if transform.center == "leading" and len(event):
            coordinates = coordinates - coordinates[0]
        for axis, values in zip(transform.axes, coordinates.T, strict=True):
            first, last = axis.edges[0], axis.edges[-1]
            if axis.periodic:
                out = (values < first) | (values >= last)
                values[out] = first + np.mod(values[out] - first, last - first)
    found = np.isfinite(coordinates).all(1)
    channels = []
    for channel in transform.channels:
        weights = None if channel is None else table[found, names.index(channel)]
        edges = [np.array(axis.edges) for axis in transform.axes]
        channels.append(np.histogramdd(coordinates[found], edges, weights=weights)[0])
    return np.stack(channels, -1 if transform.channels_last else 0)


@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_image_is_the_histogram_of_each_event(name: str, events: list[Event]) -> None:
    transform = IMAGES[name]
    good = good_rows(columns_of(events), transform)
    columns = take_all(columns_of(events), good)
    out = transform(columns)
    image = out.arrays[""]
    assert isinstance(image, np.ndarray)
    assert image.shape == (len(good), *transform.shape)
    assert image.dtype == np.float32
    number = transform.model_copy(update={"channels": (None,), "channels_last": False})
    for row, event in enumerate(good):
        expected = histogram(events[event], transform)
        np.testing.assert_allclose(image[row], expected, rtol=1e-6, atol=1e-9)
        objects = histogram(events[event], number)
        counts = dict(zip((line for line, _ in transform.counted), out.counts[row], strict=True))
        assert counts["cells with several objects"] == (objects > 1).sum()
        if transform.outside == "count":
            assert counts["objects outside the image"] == len(events[event]) - objects.sum()


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, name=st.sampled_from(["plain", "last", "line", "cube"]))
def test_sparse_image_is_the_dense_one(events: list[Event], name: str) -> None:
    transform = IMAGES[name]
    columns = take_all(columns_of(events), good_rows(columns_of(events), transform))
    dense = transform(columns)
    sparse = transform.model_copy(update={"sparse": True})(columns)
    np.testing.assert_array_equal(sparse.counts, dense.counts)
    cells, values = sparse.arrays["_cells"], sparse.arrays["_values"]
    assert isinstance(cells, Jagged)
    assert isinstance(values, Jagged)
    assert (cells.dtype, values.dtype) == (np.int64, np.float32)
    assert (values.content != 0).all()
    np.testing.assert_array_equal(cells.offsets, values.offsets)
    given = [torch.from_numpy(a) for a in (cells.content, values.content, cells.offsets)]
    made = torch_image.to_sparse(given[0], given[1], given[2], transform.shape)
    np.testing.assert_array_equal(made.to_dense().numpy(), dense.arrays[""])
    found = tf_image.to_sparse(
        *(tf.constant(a) for a in (cells.content, values.content, cells.offsets)), transform.shape
    )
    np.testing.assert_array_equal(tf.sparse.to_dense(found).numpy(), dense.arrays[""])


@settings(max_examples=40, deadline=None)
@given(events=EVENTS, name=st.sampled_from(sorted(IMAGES)))
def test_events_do_not_depend_on_each_other(events: list[Event], name: str) -> None:
    transform = IMAGES[name]
    columns = columns_of(events)
    good = good_rows(columns, transform).tolist()
    whole = transform(take_all(columns, np.array(good, np.int64)))
    for place, row in enumerate(good):
        alone = transform(take_all(columns, np.array([row])))
        np.testing.assert_array_equal(alone.arrays[""][0], whole.arrays[""][place])
        np.testing.assert_array_equal(alone.counts[0], whole.counts[place])
    for row in set(range(len(events))) - set(good):
        with pytest.raises(InvalidValueError):
            transform(take_all(columns, np.array([row])))


def test_faults_say_what_is_wrong_where() -> None:
    transform = IMAGES["strict"]
    columns = columns_of([
        [(0.5, 0.5, 1.0, 0)],
        [(9.0, 0.5, 1.0, 0)],
        [(0.5, 0.5, math.nan, 0)],
        [(0.5, 0.5, 3e38, 0), (0.5, 0.5, 3e38, 0)],
        [(math.nan, 0.5, math.inf, 0)],
    ])  # fmt: skip
    assert [tuple(fault)[:3] for fault in transform.faults(columns)] == [
        (1, "eta", "eta lies outside the image"),
        (4, "eta", "eta lies outside the image"),
        (2, "pt", "pt holds NaN or infinity"),
        (4, "pt", "pt holds NaN or infinity"),
        (3, "pt", "pt adds up to more than float32 holds"),
    ]
    with pytest.raises(InvalidValueError, match=r"eta lies outside .*event 1 .*branch eta"):
        transform(columns)


def test_members_of_different_lengths_are_named() -> None:
    columns = columns_of([[], [(0.5, 0.5, math.nan, 0)], [(0.5, 0.5, math.inf, 0)]])
    columns["phi"] = Jagged.from_lists([[], [], [1.0]])
    with pytest.raises(InvalidValueError, match=r"phi has 0 values where eta has 1 .event 1"):
        IMAGES["plain"](columns)
    assert [tuple(fault)[:3] for fault in IMAGES["plain"].faults(columns)] == [
        (1, "phi", "phi has 0 values where eta has 1"),
        (2, "pt", "pt holds NaN or infinity"),
    ]
    columns["phi"] = np.zeros(3)
    with pytest.raises(BranchError, match="phi has no list"):
        IMAGES["plain"](columns)


def test_jets_of_ttH_against_a_loop() -> None:
    with uproot.open(EXAMPLES / "tth_0.root") as file:
        arrays = file["Events"].arrays(["Jet_eta", "Jet_phi", "Jet_pt"], entry_stop=300)
    names = {"eta": "Jet_eta", "phi": "Jet_phi", "pt": "Jet_pt"}
    events = [
        [(eta, phi, pt, 0) for eta, phi, pt in zip(*event, strict=True)]
        for event in zip(*(arrays[name].to_list() for name in names.values()), strict=True)
    ]
    columns = columns_of(events)
    for name in ("plain", "leading"):
        image = IMAGES[name](columns).arrays[""]
        expected = np.stack([histogram(event, IMAGES[name]) for event in events])
        np.testing.assert_allclose(image, expected, rtol=1e-6)
        assert image.any()


def test_an_archive_gives_the_same_object() -> None:
    for transform in IMAGES.values():
        assert ImageTransform.model_validate_json(transform.model_dump_json()) == transform


def test_impossible_images_are_refused() -> None:
    with pytest.raises(ValidationError, match="edges go upwards"):
        ImageBins(branch="eta", edges=(0, 1, 1))
    wide = ImageBins(branch="eta", edges=tuple(range(4097)))
    with pytest.raises(ValidationError, match="cells"):
        ImageTransform(axes=(wide, wide, wide))


# --- edges -----------------------------------------------------------------------------------


def test_edges_come_from_the_config_or_the_specs() -> None:
    assert image_edges(ImageAxis(branch="a", edges=(0, 1, 5)), None, None) == (0, 1, 5)
    assert image_edges(ImageAxis(branch="a", bins=2, range=(0, 4)), 1.0, 2.0) == (0, 2, 4)
    assert image_edges(ImageAxis(branch="a", bins=2), 1.0, 2.0) == (1, 1.5, 2)


@pytest.mark.parametrize(
    ("axis", "low", "high", "message"),
    [
        ({"bins": 2, "periodic": True}, 0.0, 1.0, "periodic axis needs its range"),
        ({"bins": 2}, None, None, "no finite value"),
        ({"bins": 2}, 1.0, 1.0, "no room for 2 bins"),
        ({"bins": 4, "range": (1.0, 1.0 + 2e-16)}, 0.0, 1.0, "no room for 4 bins"),
    ],
)
def test_axes_without_a_range_are_refused(
    axis: dict[str, Any], low: float | None, high: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        image_edges(ImageAxis(branch="a", **axis), low, high)


# --- other backends --------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
@settings(max_examples=40, deadline=None)
@given(events=EVENTS)
def test_torch_agrees_with_numpy(name: str, events: list[Event]) -> None:
    transform, columns = IMAGES[name], columns_of(events)
    good = good_rows(columns, transform)
    arrays, valid = torch_image.ImageModule(transform)(in_torch(columns))
    assert np.flatnonzero(valid.numpy()).tolist() == good.tolist()
    expected = transform(take_all(columns, good)).arrays[""]
    assert arrays[""].dtype == torch.float32
    np.testing.assert_allclose(arrays[""].numpy()[good], expected, rtol=1e-6)


TF_DTYPES = {"eta": tf.float64, "phi": tf.float64, "pt": tf.float32, "id": tf.int64}


def tf_graph(transform: ImageTransform) -> Any:
    """Traced once, for any number of events and any width."""
    signature = {
        name: TfPadded(tf.TensorSpec([None, None], dtype), tf.TensorSpec([None], tf.int64))
        for name, dtype in TF_DTYPES.items()
    }
    return tf.function(
        lambda columns: tf_image.image(columns, transform)[""], input_signature=[signature]
    )


@pytest.mark.parametrize("name", IMAGES)
def test_tensorflow_agrees_with_numpy(name: str) -> None:
    transform = IMAGES[name]
    graph = tf_graph(transform)

    @settings(max_examples=40, deadline=None)
    @given(events=EVENTS)
    def check(events: list[Event]) -> None:
        columns = columns_of(events)
        good = good_rows(columns, transform)
        if len(good) < len(events):
            with pytest.raises(tf.errors.InvalidArgumentError, match="of those given"):
                graph(in_tf(columns))
        columns = take_all(columns, good)
        found = graph(in_tf(columns))
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found.numpy(), transform(columns).arrays[""], rtol=1e-6)

    check()


def some_events(size: int, objects: int = 7) -> Columns:
    rng = np.random.default_rng(size)
    offsets = offsets_from_lengths(rng.integers(0, objects + 1, size))
    found: Columns = {
        name: Jagged(rng.choice([*EDGES, *rng.uniform(-9, 9, 9)], offsets[-1]), offsets)
        for name in ("eta", "phi")
    }
    found["pt"] = Jagged(rng.exponential(30, offsets[-1]).astype(np.float32), offsets)
    found["id"] = Jagged(rng.integers(-3, 3, offsets[-1]), offsets)
    return found


class Inputs(torch.nn.Module):
    """Plain tensors in, as a graph has them."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        columns = {k: Padded(inputs[k], inputs[f"{k}_length"]) for k in self.names}
        arrays, valid = self.module(columns)
        return (*arrays.values(), valid)


def plain(columns: Columns, names: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for name, (values, lengths) in padded({name: columns[name] for name in names}).items():
        found |= {name: values, f"{name}_length": lengths}
    return found


def exported(module: torch.nn.Module, columns: Columns, names: tuple[str, ...]) -> Any:
    """The program for any number of events and any width of each input."""
    example = {name: torch.from_numpy(values) for name, values in plain(columns, names).items()}
    events = torch.export.Dim("events", min=1)
    shapes = {
        name: {0: events} | ({1: torch.export.Dim(f"{name}_m", min=0)} if values.ndim > 1 else {})
        for name, values in example.items()
    }
    return torch.export.export(Inputs(module, names), (example,), dynamic_shapes=(shapes,))


@pytest.mark.parametrize("name", ["leading", "last"])
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_onnx_agrees_with_numpy(name: str) -> None:
    transform = IMAGES[name]
    names = transform.branches
    program = exported(torch_image.ImageModule(transform), some_events(3), names)
    file = io.BytesIO()
    graph = torch.onnx.export(program, dynamo=True, verbose=False)
    assert graph is not None
    graph.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    for columns in (some_events(1), some_events(50), some_events(4, objects=0)):
        inputs = plain(columns, names)
        expected = transform(columns).arrays[""]
        given = {
            node.name: inputs[node.name.removeprefix("inputs_")] for node in session.get_inputs()
        }
        image, valid = session.run(None, given)
        assert valid.all()
        np.testing.assert_allclose(image, expected, rtol=1e-6)
        image, valid = program.module()({k: torch.from_numpy(v) for k, v in inputs.items()})
        np.testing.assert_allclose(image.numpy(), expected, rtol=1e-6)


def test_graphs_have_no_sparse_images() -> None:
    transform = ImageTransform(axes=(ETA,), sparse=True)
    with pytest.raises(ConfigError, match="sparse"):
        torch_image.ImageModule(transform)
    with pytest.raises(ConfigError, match="sparse"):
        tf_image.image({}, transform)


def test_a_module_keeps_its_precision() -> None:
    with pytest.raises(ConfigError, match=r"cast to torch\.float16"):
        torch_image.ImageModule(IMAGES["line"]).half()(in_torch(some_events(2)))
