"""The whole transform as a Keras layer: the numbers of the numpy reference, inside the graph.

It is made of plain TensorFlow ops, so that it travels inside a ``.keras`` file and a SavedModel
without any code of this package at serving time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_adapters.common.files.preparation import RawBranch
from hepdata_adapters.common.inference.padded_inputs import LENGTH, input_dtype, input_names
from hepdata_adapters.common.transform.graph.backend import maker_of
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.tf.transform.expressions import Padded
from hepdata_adapters.tf.transform.image import image
from hepdata_adapters.tf.transform.objects import TENSORS
from hepdata_adapters.tf.transform.preparation import prepare
from hepdata_adapters.tf.transform.sets import padded_set
from hepdata_adapters.tf.transform.vector import event_vectors

_MAKERS: dict[type, Callable[[Any, Any], dict[str, tf.Tensor]]] = {
    SetTransform: padded_set, ImageTransform: image,
}  # fmt: skip


def input_signature(transform: Transform) -> dict[str, tf.TensorSpec]:
    """What an `EventTransform` takes, by input name; any n events, any padded width m.

    Flat ``(n,)`` and array ``(n, k)`` branches and padded jagged ones ``(n, m)`` have their
    `input_dtype`, the lengths ``(n,)`` of a jagged branch are int64. Raises ConfigError for a
    dtype that TensorFlow does not have, and for branches that differ only in case.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> signature = input_signature(Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=2),))))
    >>> [(name, spec.shape.as_list(), spec.dtype.name) for name, spec in signature.items()]
    [('Jet_pt', [None, None], 'float32'), ('Jet_pt_length', [None], 'int64')]
    """
    names = input_names(transform)
    signature: dict[str, tf.TensorSpec] = {}
    for branch in transform.branches:
        name = names[branch.name]
        shape = {"flat": [None], "array": [None, branch.size], "jagged": [None, None]}
        signature[name] = tf.TensorSpec(shape[branch.kind], _dtype(branch), name)
        if branch.kind == "jagged":
            signature[name + LENGTH] = tf.TensorSpec([None], tf.int64, name + LENGTH)
    _check_case(names, signature)
    return signature


@keras.saving.register_keras_serializable(package="hepdata_adapters")
class EventTransform(keras.layers.Layer):
    """Raw columns of n events to all that a model sees.

    Takes a dict by input name (see `input_signature`): flat ``(n,)``, array ``(n, k)``, jagged
    ``(n, m)`` with its lengths ``(n,)`` under ``NAME_length``, or a ``tf.RaggedTensor``
    ``(n, None)`` without them. Other keys are ignored; what lies beyond a length has no
    influence, whatever it is.

    Returns the arrays of the `Transform` by name: ``x (n, d)`` float32, ``mask (n, d)`` bool,
    ``lengths (n, j)`` int32, and those of the inputs (TensorFlow flushes numbers below 1.2e-38 to
    zero). Raises ConfigError for a ragged or sparse representation, which has no dense tensor, for
    inputs of another name, dtype or rank and, when it runs, ``tf.errors.InvalidArgumentError`` for
    values that their policy forbids.

    Call it, or give Keras a ``tf.data.Dataset``: ``Model.fit`` and ``predict`` cast numpy arrays
    of float64 to float32 before any layer sees them.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> layer = EventTransform(Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=2)))))
    >>> jets = tf.ragged.constant([[3.0], [1.0, 2.0, 9.0]])
    >>> out = layer({"MET": tf.constant([10.0, 4.0]), "Jet_pt": jets})
    >>> out["x"][1].numpy().tolist(), out["mask"][0].numpy().tolist()
    ([2.0, 1.0, 2.0], [True, True, False])
    >>> out["lengths"].numpy().tolist()
    [[1], [2]]
    """

    def __init__(self, transform: Transform | Mapping[str, Any], **options: Any) -> None:
        # with autocast, Keras would squeeze float64 columns through float32
        super().__init__(autocast=False, **options)
        self.transform = Transform.model_validate(transform)
        for name, made in self.transform.inputs.items():
            maker_of(name, made, _MAKERS)
        self.input_signature = input_signature(self.transform)
        self.supports_jit = False  # XLA has no strings, which the messages of faults are

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transform": self.transform.model_dump(mode="json")}

    def call(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        columns: dict[str, tf.Tensor | Padded] = {}
        rows: tf.Tensor | None = None
        for branch, name in input_names(self.transform).items():
            values = self._input(inputs, name)
            jagged = name + LENGTH in self.input_signature
            column = self._padded(inputs, name, values) if jagged else values
            found = tf.shape(column.values if jagged else column)[0]
            rows = found if rows is None else rows
            columns[branch] = _after(_same_rows(found, rows, name), column)
        prepared = prepare(columns, self.transform.preparation, self.transform.columns)
        arrays: dict[str, tf.Tensor] = {}
        if self.transform.vector:
            arrays |= event_vectors(prepared, self.transform.vector)
        for name, made in self.transform.inputs.items():
            found = maker_of(name, made, _MAKERS)(prepared, made)
            arrays |= {name + suffix: values for suffix, values in found.items()}
        return arrays

    def _input(self, inputs: Mapping[str, Any], name: str) -> Any:
        """The tensor (or RaggedTensor) of this name, checked against the signature."""
        if name not in inputs:
            raise ConfigError(f"input {name!r} is missing{nearest(name, inputs)}")
        given, spec = inputs[name], self.input_signature[name]
        tensor = given if isinstance(given, tf.RaggedTensor) else tf.convert_to_tensor(given)
        if tensor.dtype != spec.dtype:
            raise ConfigError(
                f"input {name!r} takes {spec.dtype.name}, not {tensor.dtype.name}: cast it"
            )
        ragged = isinstance(tensor, tf.RaggedTensor)
        if not spec.shape.is_compatible_with(tensor.shape) or (
            ragged and name + LENGTH not in self.input_signature
        ):
            raise ConfigError(f"input {name!r} takes shape {spec.shape}, not {tensor.shape}")
        return tensor if ragged else tf.ensure_shape(tensor, spec.shape)

    def _padded(self, inputs: Mapping[str, Any], name: str, values: Any) -> Padded:
        """Values ``(n, m)`` and lengths ``(n,)`` int64 of a jagged input."""
        if isinstance(values, tf.RaggedTensor):
            return Padded(values.to_tensor(), tf.cast(values.row_lengths(), tf.int64))
        lengths = self._input(inputs, name + LENGTH)
        # else one length would be taken for all events
        same = _same_rows(tf.shape(lengths)[0], tf.shape(values)[0], name + LENGTH)
        lengths = _after(same, lengths)
        width = tf.shape(values, tf.int64)[1]
        TENSORS.refuse(
            (lengths < 0) | (lengths > width),
            f"input {name}{LENGTH} holds ", lengths,
            ", which is not in 0..", width, f", the width of {name}",
        )  # fmt: skip
        return Padded(values, lengths)


def _dtype(branch: RawBranch) -> tf.DType:
    try:
        return tf.as_dtype(input_dtype(branch))
    except TypeError:
        raise ConfigError(
            f"branch {branch.name!r} is {branch.dtype}, which TensorFlow does not have: "
            "leave it out or write it in another type"
        ) from None


def _check_case(names: Mapping[str, str], signature: Mapping[str, Any]) -> None:
    """Raise ConfigError for inputs that TensorFlow's functions would take for one."""
    owners = {name + end: branch for branch, name in names.items() for end in ("", LENGTH)}
    first: dict[str, str] = {}
    for name in signature:
        other = first.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(
                f"branches {owners[other]!r} and {owners[name]!r} differ only in case, and "
                f"TensorFlow takes them for one input: write exclude: [{owners[name]}], or train "
                "with torch and export to torchserve or onnx, which tell them apart"
            )


def _same_rows(rows: tf.Tensor, wanted: tf.Tensor, name: str) -> Any:
    """The check that an input has the rows of the first one; None where it passed at once."""
    return tf.debugging.assert_equal(rows, wanted, f"input {name} has another number of events")


def _after(check: Any, column: Any) -> Any:
    """The column, to be used in a graph only when the check has passed: its error is the first."""
    with tf.control_dependencies([] if check is None else [check]):
        if isinstance(column, Padded):
            return Padded(tf.identity(column.values), tf.identity(column.lengths))
        return tf.identity(column)
