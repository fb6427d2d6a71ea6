"""The transform as an nn.Module and as an ONNX graph agrees with numpy to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Column, Jagged, take_all
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.files.preparation import Preparation, RawBranch
from hepdata_adapters.common.files.shared_counts import SharedCount
from hepdata_adapters.common.inference.padded_inputs import LENGTH, dense_inputs, input_names
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
from hepdata_adapters.torch.transform.event_transform import EventTransform
from hepdata_serving.errors import ExportError
from hepdata_serving.onnx.graph import graph_inputs, save_graph, traced_model
from hepdata_serving.onnx.runtime import Graph
from tests.helpers.torchserve_example import ExampleScorer, example_transform

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


# --- the transform as a module -----------------------------------------------------------------


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


# --- the graph ---------------------------------------------------------------------------------


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


# --- many branches -----------------------------------------------------------------------------


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
