"""A scorer as a ``torch.export`` program: a graph and weights, no Python and no pickle.

The bytes are the same for the same model: traces of the exporting machine are removed.
"""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import torch
from numpy.typing import NDArray

from hepdata_adapters.common.errors import ConfigError
from hepdata_serving.answers import Score
from hepdata_serving.errors import ArchiveError, ExportError

_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
"""What torch notes at each node for debugging: paths of this machine, names of user classes."""


def save_program(scorer: torch.nn.Module, num_features: int) -> bytes:
    """Export ``x (n, d)`` float32 → scores, for any n ≥ 1.

    Raises ConfigError for a scorer that is training or not on the CPU, ExportError for one
    that torch cannot export.
    """
    if any(module.training for module in scorer.modules()):
        raise ConfigError("the scorer is in training mode; call scorer.eval() before exporting")
    for name, tensor in scorer.state_dict().items():
        if tensor.device.type != "cpu":
            raise ConfigError(
                f"{name!r} lies on {tensor.device}; call scorer.cpu() before exporting"
            )
    # more than one example event, because torch fixes sizes of 0 and 1 into the graph
    example = torch.zeros(3, num_features)
    events = torch.export.Dim("events", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(scorer, (example,), dynamic_shapes=({0: events},))
    except Exception as error:  # any exception of the user's forward arrives here
        raise ExportError(
            f"torch.export refuses {type(scorer).__name__}: {_one_line(error)}. "
            "Its forward must be tensor operations only, for any number of events: "
            "torch.where instead of 'if' on values, torch functions instead of numpy and item(), "
            "squeeze(1) instead of squeeze()"
        ) from error
    _forget_origin(program)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    data = buffer.getvalue()
    refuse_pickles(data)
    return data


def load_program(data: bytes) -> Score:
    """The function that a program of `save_program` is.

    Raises ArchiveError for bytes that hold pickled objects or that this torch cannot read.
    """
    refuse_pickles(data)
    try:
        module = torch.export.load(io.BytesIO(data)).module()
    except Exception as error:  # torch raises anything, AssertionError and KeyError among them
        raise ArchiveError(
            f"torch {torch.__version__} cannot load model.pt2: {_one_line(error)}; "
            "export the model again with the torch that serves it"
        ) from error

    def score(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            scores: NDArray[np.float32] = module(torch.from_numpy(x)).numpy()
        return scores

    return score


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
                    for name, entry in json.loads(archive.read(item))["config"].items():
                        plain = entry["path_name"].startswith(("weight_", "tensor_"))
                        if entry["use_pickle"] or not plain:
                            raise ArchiveError(f"model.pt2 holds a pickled object: {name}")
    except (zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ArchiveError(f"model.pt2 is corrupt: {_one_line(error)}") from error


def _forget_origin(program: torch.export.ExportedProgram) -> None:
    """Remove the example (it would be pickled) and each node's traces (they hold paths)."""
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for trace in _TRACES:
                    node.meta.pop(trace, None)


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0][:300] if lines else type(error).__name__).rstrip(".")
