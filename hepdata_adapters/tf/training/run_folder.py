"""Runs of Keras models: their weights in the run folder, and back."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.runs.run_folder import Run, num_outputs, read_parts
from hepdata_adapters.common.transform.pipeline import ModelInput
from hepdata_adapters.tf.training.models import build_model, build_scorer, model_inputs

WEIGHTS = "checkpoint.weights.h5"


def load_run(folder: str | Path) -> Run[keras.Model]:
    """Read a run folder written by ``fit``; the model is the network with its activation.

    Raises FileError if it is incomplete, ConfigError or SpecsError if a part is corrupt. A model
    made by the user's factory runs the user's code; the weights are plain arrays.
    """
    parts = read_parts(folder, "tf", WEIGHTS)
    path = parts.folder / WEIGHTS
    inputs = model_inputs(parts.transform)
    net = build_model(parts.config.model, inputs, num_outputs(parts.task, len(parts.class_names)))
    try:
        with warnings.catch_warnings():
            # of a model that the factory has compiled: a run only scores
            warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
            net.load_weights(path)
    except Exception as error:  # Keras and HDF5 raise whatever their readers raise
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{path} does not fit the model: {reason}") from error
    scorer = build_scorer(net, inputs, parts.task)

    def score(given: ModelInput) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = scorer(given, training=False).numpy()
        return scores

    return Run(**vars(parts), model=scorer, score=score)
