"""Transform and scorer as one SavedModel with two signatures, and back.

``serving_default`` takes raw branches, ``prepared`` what the transform makes of them; both give
``score``. The same weights give the same answers, but not the same bytes: TensorFlow numbers
the functions of a process and gives each SavedModel a random fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Array
from hepdata_adapters.common.transform.pipeline import ModelInput, Transform, chosen
from hepdata_adapters.tf.transform.event_transform import EventTransform, input_signature
from hepdata_serving.errors import ArchiveError, ExportError

Scorer = Callable[[Any], tf.Tensor]
"""``x (n, d)`` float32 (a dict of tensors where there are inputs) to scores with the activation
inside, ``(n,)`` or ``(n, C)``; a Keras model, a tf.Module or what else TensorFlow can track."""

RAW_SIGNATURE = "serving_default"
PREPARED_SIGNATURE = "prepared"
OUTPUT = "score"


class EventModel(tf.Module):
    """Raw columns to scores."""

    def __init__(self, transform: Transform, scorer: Scorer) -> None:
        super().__init__(name="event_model")
        self.transform = EventTransform(transform)
        self.scorer = scorer

    def serving_default(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Inputs by name (see `input_signature`) to ``{"score": (n,) or (n, C)}``."""
        arrays = self.transform(inputs)
        return {OUTPUT: self.scorer(chosen(arrays, self.transform.transform.model_inputs))}

    def prepared(self, **arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the transform makes of the events, by name, to the same."""
        return {OUTPUT: self.scorer(chosen(arrays, self.transform.transform.model_inputs))}


@dataclass(frozen=True)
class Signatures:
    """The signatures of a loaded SavedModel as functions of numpy arrays."""

    raw: Callable[[Mapping[str, Array]], NDArray[np.float32]]
    prepared: Callable[[ModelInput], NDArray[np.float32]]


def save_model(folder: Path, transform: Transform, scorer: Scorer) -> None:
    """Write a SavedModel. Raises ExportError, with TensorFlow's reason, where it cannot."""
    model = EventModel(transform, scorer)
    arrays = transform.zeros(1)
    specs = {
        name: tf.TensorSpec([None, *values.shape[1:]], tf.as_dtype(values.dtype), name)
        for name, values in (arrays if isinstance(arrays, dict) else {"x": arrays}).items()
    }
    try:
        raw = tf.function(model.serving_default, autograph=False)
        prepared = tf.function(model.prepared, autograph=False)
        signatures = {
            RAW_SIGNATURE: raw.get_concrete_function(**input_signature(transform)),
            PREPARED_SIGNATURE: prepared.get_concrete_function(**specs),
        }
        tf.saved_model.save(model, str(folder), signatures)
    except (AssertionError, TypeError, ValueError, tf.errors.OpError) as error:
        raise ExportError(
            f"TensorFlow refuses {type(scorer).__name__}: {_first_lines(error)}\n"
            "A scorer is a Keras model or tf.Module of TensorFlow operations that takes any "
            "number of events"
        ) from error


def load_signatures(folder: Path) -> Signatures:
    """Load a SavedModel. Raises ArchiveError if it is none, or has other signatures."""
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ArchiveError(f"{folder} is not a SavedModel: {_first_lines(error)}") from error
    missing = {RAW_SIGNATURE, PREPARED_SIGNATURE} - set(loaded.signatures)
    if missing:
        raise ArchiveError(f"{folder} lacks the signature {min(missing)!r}: export the model again")

    def call(signature: str, inputs: Mapping[str, Array]) -> Any:
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        return loaded.signatures[signature](**tensors)[OUTPUT].numpy()

    return Signatures(
        raw=lambda inputs: call(RAW_SIGNATURE, inputs),
        prepared=lambda given: call(
            PREPARED_SIGNATURE, given if isinstance(given, dict) else {"x": given}
        ),
    )


def _first_lines(error: Exception) -> str:
    return "\n".join(str(error).strip().splitlines()[:8])
