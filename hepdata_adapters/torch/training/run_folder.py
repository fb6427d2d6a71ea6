"""Runs of PyTorch models: their weights in the run folder, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hepdata_adapters.common.core.errors import ConfigError, FileError
from hepdata_adapters.common.runs.run_folder import Run, num_outputs, read_parts
from hepdata_adapters.common.transform.pipeline import ModelInput
from hepdata_adapters.torch.data.convert import as_tensors
from hepdata_adapters.torch.training.event_module import Scorer
from hepdata_adapters.torch.training.models import build_model

CHECKPOINT = "checkpoint.ckpt"


def load_run(folder: str | Path) -> Run[Scorer]:
    """Read a run folder written by ``fit``; the model is a `Scorer` on the CPU in eval mode.

    Raises FileError if it is incomplete, ConfigError or SpecsError if a part is corrupt. A model
    made by the user's factory runs the user's code; weights are loaded without unpickling
    anything else.
    """
    parts = read_parts(folder, "torch", CHECKPOINT)
    path = parts.folder / CHECKPOINT
    outputs = num_outputs(parts.task, len(parts.class_names))
    net = build_model(parts.config.model, parts.transform.model_shape, outputs)
    scorer = Scorer(net, parts.task)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # torch raises whatever its readers raise
        reason = type(error).__name__
        raise FileError(f"not a readable checkpoint ({reason})", file=str(path)) from error
    weights = {
        name.removeprefix("scorer."): value
        for name, value in state.items()
        if name.startswith("scorer.")
    }
    try:
        scorer.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path} does not fit the model: {reason}") from None
    scorer.eval()

    @torch.inference_mode()
    def score(inputs: ModelInput) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = scorer(as_tensors(inputs)).numpy()
        return scores

    return Run(**vars(parts), model=scorer, score=score)
