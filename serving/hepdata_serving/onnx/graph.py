"""Transform and scorer as one ONNX graph: raw events in, scores out, no Python inside."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepdata_adapters.common.dense import LENGTH, input_dtype, input_names
from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.torch.transform import EventTransform
from hepdata_serving.errors import ExportError
from hepdata_serving.onnx.runtime import OUTPUTS

_EVENTS = "events"


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


def graph_inputs(transform: VectorTransform) -> list[GraphInput]:
    """The inputs of a graph, those of `hepdata_adapters.common.dense.dense_inputs`, in order.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform
    >>> for described in graph_inputs(VectorTransform(features=(
    ...         FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2),))):
    ...     print(described.name, described.dtype, described.shape)
    pt float32 ('events', 'pt_values')
    pt_length int64 ('events',)
    """
    names = input_names(transform)
    found: list[GraphInput] = []
    for feature in transform.features:
        name = names[feature.branch]
        more: dict[str, tuple[int | str, ...]] = {
            "flat": (),
            "array": (feature.width,),
            "jagged": (f"{name}_values",),
        }
        found.append(GraphInput(name, str(input_dtype(feature)), (_EVENTS, *more[feature.kind])))
        if feature.kind == "jagged":
            found.append(GraphInput(name + LENGTH, "int64", (_EVENTS,)))
    return found


class RawEventModel(torch.nn.Module):
    """Dense inputs by name to the `OUTPUTS`."""

    def __init__(self, transform: VectorTransform, scorer: torch.nn.Module) -> None:
        super().__init__()
        self.transform = EventTransform(transform)
        self.scorer = scorer

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores ``(n,)`` or ``(n, C)``, and ``valid`` ``(n,)``."""
        events = self.transform(inputs)
        scores = self.scorer(events.x)
        valid = events.valid.reshape(-1, *[1] * (scores.ndim - 1))
        # a client that does not look at `valid` must not get a number that looks like a score
        return torch.where(valid, scores, torch.nan), events.valid


def save_graph(scorer: torch.nn.Module, transform: VectorTransform) -> bytes:
    """``model.onnx`` for any number of events and any padded widths.

    scorer: ``x (n, d)`` float32 to scores. The same model gives the same bytes.
    Raises ConfigError for a scorer that is training or not on the CPU, ExportError for one that
    torch or ONNX has no graph for.
    """
    if any(module.training for module in scorer.modules()):
        raise ConfigError("the scorer is in training mode; call scorer.eval() before exporting")
    for name, tensor in scorer.state_dict().items():
        if tensor.device.type != "cpu":
            raise ConfigError(
                f"{name!r} lies on {tensor.device}; call scorer.cpu() before exporting"
            )
    inputs = graph_inputs(transform)
    program = _program(RawEventModel(transform, scorer).eval(), inputs, type(scorer).__name__)
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[described.name for described in inputs],
                output_names=OUTPUTS,
            )
        model = cast(torch.onnx.ONNXProgram, exported).model_proto  # None only without dynamo
        _forget_origin(model)
        _name_dimensions(model, inputs)
        data: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # an operation without an ONNX form, or over 2 GB
        raise ExportError(
            f"{type(scorer).__name__} cannot be written as ONNX: {_one_line(error)}"
        ) from error
    return data


def _program(
    model: RawEventModel, inputs: list[GraphInput], scorer: str
) -> torch.export.ExportedProgram:
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
    # torch fixes sizes of 0 and 1 into the graph, so the example has more of everything
    example = {given.name: torch.from_numpy(given.zeros(3, values=4)) for given in inputs}
    try:
        with torch.no_grad():
            return torch.export.export(model, (example,), dynamic_shapes=(shapes,))
    except Exception as error:  # any exception of the user's forward arrives here
        raise ExportError(
            f"torch.export refuses {scorer}: {_one_line(error)}. "
            "Its forward must be tensor operations only, for any number of events: "
            "torch.where instead of 'if' on values, torch functions instead of numpy and item(), "
            "squeeze(1) instead of squeeze()"
        ) from error


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


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0][:300] if lines else type(error).__name__).rstrip(".")
