"""A scorer as a ``torch.export`` program: a graph and weights, no Python and no pickle.

The bytes are the same for the same model: traces of the exporting machine are removed.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import torch
from numpy.typing import NDArray

from hepdata_adapters.common.transform.pipeline import ModelInput, ScoreFunction
from hepdata_serving.errors import ArchiveError, one_line
from hepdata_serving.integrity import parse_json
from hepdata_serving.tracing import check_scorer, traced

_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
"""What torch notes at each node for debugging: paths of this machine, names of user classes."""


def save_program(scorer: torch.nn.Module, example: ModelInput) -> bytes:
    """Export what the scorer makes of inputs like the example, for any n ≥ 1 events.

    example: of several events, because torch fixes sizes of 0 and 1 into the graph.
    Raises ConfigError for a scorer that is training or not on the CPU, ExportError for one
    that torch cannot export.
    """
    check_scorer(scorer)
    given = _tensors(example)
    events = torch.export.Dim("events", min=1)
    sizes = {name: {0: events} for name in given} if isinstance(given, dict) else {0: events}
    program = traced(scorer, given, sizes, type(scorer).__name__)
    _forget_origin(program)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    data = buffer.getvalue()
    refuse_pickles(data)
    return data


def load_program(data: bytes) -> ScoreFunction:
    """The function that a program of `save_program` is.

    Raises ArchiveError for bytes that hold pickled objects or that this torch cannot read.
    """
    refuse_pickles(data)
    try:
        module = torch.export.load(io.BytesIO(data)).module()
    except Exception as error:  # torch raises anything, AssertionError and KeyError among them
        raise ArchiveError(
            f"torch {torch.__version__} cannot load model.pt2: {one_line(error)}; "
            "export the model again with the torch that serves it"
        ) from error

    def score(inputs: ModelInput) -> NDArray[np.float32]:
        with torch.inference_mode():
            scores: NDArray[np.float32] = module(_tensors(inputs)).numpy()
        return scores

    return score


def _tensors(inputs: ModelInput) -> torch.Tensor | dict[str, torch.Tensor]:
    if isinstance(inputs, dict):
        return {name: torch.from_numpy(values) for name, values in inputs.items()}
    return torch.from_numpy(inputs)


def refuse_pickles(data: bytes) -> None:
    """Raise ArchiveError unless loading these bytes runs no pickle.

    ``torch.export.load`` unpickles whatever an archive declares as pickled, without limits,
    so a program is only given to it after this.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for item in archive.infolist():
                parts = item.filename.split("/")
                if "sample_inputs" in parts and item.file_size:
                    raise ArchiveError(f"model.pt2 holds a pickle: {item.filename}")
                if parts[-1].endswith(".pt") and item.file_size:
                    raise ArchiveError(f"model.pt2 holds a pickle: {item.filename}")
                if parts[-1].endswith("_config.json"):
                    config = parse_json(archive.read(item), item.filename)["config"]
                    for name, entry in config.items():
                        plain = entry["path_name"].startswith(("weight_", "tensor_"))
                        if entry["use_pickle"] or not plain:
                            raise ArchiveError(f"model.pt2 holds a pickled object: {name}")
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ArchiveError(f"model.pt2 is corrupt: {one_line(error)}") from error


def _forget_origin(program: torch.export.ExportedProgram) -> None:
    """Remove the example (it would be pickled) and each node's traces (they hold paths)."""
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for trace in _TRACES:
                    node.meta.pop(trace, None)
