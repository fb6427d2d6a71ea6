"""Transform and scorer as one ONNX graph: raw events in, scores out, no Python inside."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepdata_adapters.common.inference.padded_inputs import (
    LENGTH,
    input_dtype,
    input_names,
    padded_alike,
)
from hepdata_adapters.common.transform.pipeline import Transform, chosen
from hepdata_adapters.torch.transform.event_transform import EventTransform
from hepdata_adapters.torch.transform.scaling import Encoding
from hepdata_serving.checks import user_functions
from hepdata_serving.errors import ExportError, one_line
from hepdata_serving.onnx.runtime import OUTPUTS
from hepdata_serving.onnx.translations import TRANSLATIONS
from hepdata_serving.tracing import check_scorer, traced

_EVENTS = "events"
_ENCODED = ("scaled", "real", "refused")


@dataclass(frozen=True)
class GraphInput:
    """One input of the graph; a dimension that may have any size is a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def zeros(self, events: int, values: int = 1) -> NDArray[Any]:
        """Zeros for this number of events, lists padded to ``values``."""
        shape = [
            size if isinstance(size, int) else values if axis else events
            for axis, size in enumerate(self.shape)
        ]
        return np.zeros(shape, self.dtype)


def graph_inputs(transform: Transform) -> list[GraphInput]:
    """The inputs of a graph, those of `dense_inputs`, in order.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2),)))
    >>> for described in graph_inputs(transform):
    ...     print(described.name, described.dtype, described.shape)
    pt float32 ('events', 'pt_values')
    pt_length int64 ('events',)
    """
    names = input_names(transform)
    widest = padded_alike(transform)
    found: list[GraphInput] = []
    for branch in transform.branches:
        name = names[branch.name]
        more: dict[str, tuple[int | str, ...]] = {
            "flat": (),
            "array": (branch.size,),
            "jagged": (f"{names[widest.get(branch.name, branch.name)]}_values",),
        }
        found.append(GraphInput(name, str(input_dtype(branch)), (_EVENTS, *more[branch.kind])))
        if branch.kind == "jagged":
            found.append(GraphInput(name + LENGTH, "int64", (_EVENTS,)))
    return found


class RawEventModel(torch.nn.Module):
    """Dense inputs by name to the `OUTPUTS`."""

    def __init__(self, transform: Transform, scorer: torch.nn.Module) -> None:
        super().__init__()
        self.transform = EventTransform(transform)
        self.model_inputs = transform.model_inputs
        self.scorer = scorer

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores ``(n,)`` or ``(n, C)``, and ``valid`` ``(n,)``."""
        events = self.transform(inputs)
        scores = self.scorer(chosen(events.arrays, self.model_inputs))
        valid = events.valid.reshape(-1, *[1] * (scores.ndim - 1))
        # a client that does not look at `valid` must not get a number that looks like a score
        return torch.where(valid, scores, torch.nan), events.valid


def save_graph(scorer: torch.nn.Module, transform: Transform) -> bytes:
    """``model.onnx`` for any number of events and any padded widths.

    scorer: ``x (n, d)`` float32, or a dict of tensors by name where the transform has inputs, to
    scores. The same model gives the same bytes.
    Raises ConfigError for a scorer that is training or not on the CPU, and for a transform with
    ragged or sparse inputs; ExportError for a scorer, or a user's scaling function, that torch or
    ONNX has no graph for.
    """
    check_scorer(scorer)
    inputs = graph_inputs(transform)
    name = type(scorer).__name__
    program = traced_model(scorer, transform)
    try:
        model = _converted(program, [described.name for described in inputs], OUTPUTS)
        _forget_origin(model)
        _name_dimensions(model, inputs)
        data: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # an operation without an ONNX form, or over 2 GB
        blamed = _function_without_onnx(transform) or name
        raise ExportError(f"{blamed} cannot be written as ONNX: {one_line(error)}") from error
    return data


def traced_model(scorer: torch.nn.Module, transform: Transform) -> torch.export.ExportedProgram:
    """The program that becomes the graph.

    Its operations are as many for hundreds of branches as for a few of the same kinds, but for
    jagged ones that share a count with no other. Raises ExportError as `save_graph` does.
    """
    inputs = graph_inputs(transform)
    sizes = {
        size: torch.export.Dim(size, min=1 if axis == 0 else 0)
        for described in inputs
        for axis, size in enumerate(described.shape)
        if isinstance(size, str)
    }
    shapes = {
        described.name: {
            axis: sizes[size] for axis, size in enumerate(described.shape) if size in sizes
        }
        for described in inputs
    }
    example = {given.name: torch.from_numpy(given.zeros(3, values=4)) for given in inputs}
    return traced(RawEventModel(transform, scorer).eval(), example, shapes, type(scorer).__name__)


def _converted(
    program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    """The program as an ONNX model, which loses its example inputs."""
    # with them, all sizes of all inputs are compared in a way that is quadratic in the inputs
    program.example_inputs = None
    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            optimize=False,  # which takes minutes for hundreds of branches; onnxruntime does it
            input_names=inputs,
            output_names=outputs,
            custom_translation_table=TRANSLATIONS,
        )
    return cast(torch.onnx.ONNXProgram, exported).model_proto  # None only without dynamo


def _function_without_onnx(transform: Transform) -> str | None:
    """What to call the first of the user's scaling functions that fails alone."""
    example, sizes = torch.zeros(3, 1, dtype=torch.float64), {0: torch.export.Dim("events", min=1)}
    for feature, function in user_functions(transform):
        called = f"scaling function {function!r} of feature {feature.branch!r}"
        try:
            _converted(traced(Encoding([feature]), example, sizes, called), ["raw"], _ENCODED)
        except Exception:  # whatever the exporter raised for the whole
            return called
    return None


def _forget_origin(model: Any) -> None:
    """Remove what the exporter notes for debugging: paths of this machine, shapes it guessed."""
    for message in [model.graph, *model.functions]:
        for node in message.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
        message.ClearField("value_info")
        message.ClearField("metadata_props")
        message.ClearField("doc_string")
    for tensor in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        tensor.ClearField("metadata_props")
        tensor.ClearField("doc_string")
    model.ClearField("metadata_props")
    model.ClearField("doc_string")


def _name_dimensions(model: Any, inputs: list[GraphInput]) -> None:
    """Call the sizes of inputs and outputs as `graph_inputs` does, not ``s41``."""
    names: dict[str, str] = {}
    for tensor, described in zip(model.graph.input, inputs, strict=True):
        for dimension, size in zip(tensor.type.tensor_type.shape.dim, described.shape, strict=True):
            if isinstance(size, str):
                names[dimension.dim_param] = size
    for tensor in [*model.graph.input, *model.graph.output]:
        for dimension in tensor.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = names[dimension.dim_param]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not needed and on its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
