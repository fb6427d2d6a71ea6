"""PyTorch modules as torch.export programs: what every kind of export checks and says."""

from __future__ import annotations

from typing import Any

import torch

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.errors import ExportError, one_line


def check_scorer(scorer: torch.nn.Module) -> None:
    """Raise ConfigError for a scorer that is in training mode or not on the CPU."""
    if any(module.training for module in scorer.modules()):
        raise ConfigError("the scorer is in training mode; call scorer.eval() before exporting")
    for name, tensor in scorer.state_dict().items():
        if tensor.device.type != "cpu":
            raise ConfigError(
                f"{name!r} lies on {tensor.device}; call scorer.cpu() before exporting"
            )


def traced(
    module: torch.nn.Module, example: Any, sizes: Any, name: str
) -> torch.export.ExportedProgram:
    """The program of a module of one argument.

    example: the argument; more than 1 of everything that may have any size, because torch fixes
    sizes of 0 and 1 into the graph. sizes: its dynamic shapes. name: of the model, for messages.
    Raises ExportError for a model that torch cannot export.
    """
    try:
        with torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=(sizes,))
    except ConfigError as error:  # it says itself what is wrong
        raise ExportError(f"torch.export refuses {name}: {error}") from error
    except Exception as error:  # any exception of the user's forward arrives here
        raise ExportError(
            f"torch.export refuses {name}: {one_line(error)}. "
            "Its forward must be tensor operations only, for any number of events: "
            "torch.where instead of 'if' on values, torch functions instead of numpy and item(), "
            "squeeze(1) instead of squeeze()"
        ) from error
