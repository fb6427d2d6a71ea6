"""The transform as a Keras layer: the same numbers as the numpy reference, inside the graph.

It is made of plain TensorFlow ops, so that it travels inside a ``.keras`` file and a SavedModel
without any code of this package at serving time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.dense import LENGTH, input_dtype, input_names
from hepdata_adapters.common.errors import ConfigError, nearest
from hepdata_adapters.common.transform.vector import (
    LARGEST,
    PAD_VALUE,
    FeatureTransform,
    VectorTransform,
)


def input_signature(transform: VectorTransform) -> dict[str, tf.TensorSpec]:
    """What an `EventTransform` takes, by input name; any n events, any padded width m.

    Flat ``(n,)`` and array ``(n, k)`` branches and padded jagged ones ``(n, m)`` have their
    `input_dtype`, the lengths ``(n,)`` of a jagged branch are int64. Raises ConfigError for a
    dtype that TensorFlow does not have.

    >>> signature = input_signature(VectorTransform(features=(
    ...     FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=2),)))
    >>> [(name, spec.shape.as_list(), spec.dtype.name) for name, spec in signature.items()]
    [('Jet_pt', [None, None], 'float32'), ('Jet_pt_length', [None], 'int64')]
    """
    names = input_names(transform)
    signature: dict[str, tf.TensorSpec] = {}
    for feature in transform.features:
        name = names[feature.branch]
        shape = {"flat": [None], "array": [None, feature.width], "jagged": [None, None]}
        signature[name] = tf.TensorSpec(shape[feature.kind], _dtype(feature), name)
        if feature.kind == "jagged":
            signature[name + LENGTH] = tf.TensorSpec([None], tf.int64, name + LENGTH)
    return signature


@keras.saving.register_keras_serializable(package="hepdata_adapters")
class EventTransform(keras.layers.Layer):
    """Raw columns of n events to scaled, padded vectors.

    Takes a dict by input name (see `input_signature`): flat ``(n,)``, array ``(n, k)``, jagged
    ``(n, m)`` with its lengths ``(n,)`` under ``NAME_length``, or a ``tf.RaggedTensor``
    ``(n, None)`` without them. Other keys are ignored; what lies beyond a length has no
    influence, whatever it is.

    Returns ``x (n, d)`` float32, ``mask (n, d)`` bool, ``lengths (n, j)`` int32, equal to those
    of the `VectorTransform` (TensorFlow flushes numbers below 1.2e-38 to zero). Raises
    ConfigError for inputs of another name, dtype or rank and, when it runs,
    ``tf.errors.InvalidArgumentError`` for values that their policy forbids.

    Call it, or give Keras a ``tf.data.Dataset``: ``Model.fit`` and ``predict`` cast numpy arrays
    of float64 to float32 before any layer sees them.

    >>> layer = EventTransform(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=2))))
    >>> jets = tf.ragged.constant([[3.0], [1.0, 2.0, 9.0]])
    >>> out = layer({"MET": tf.constant([10.0, 4.0]), "Jet_pt": jets})
    >>> out["x"].numpy().tolist()
    [[5.0, 3.0, 0.0], [2.0, 1.0, 2.0]]
    >>> out["lengths"].numpy().tolist()
    [[1], [2]]
    """

    def __init__(self, transform: VectorTransform | Mapping[str, Any], **options: Any) -> None:
        # with autocast, Keras would squeeze float64 columns through float32
        super().__init__(autocast=False, **options)
        self.transform = VectorTransform.model_validate(transform)
        self.input_signature = input_signature(self.transform)
        self.supports_jit = False  # XLA has no strings, which the messages of faults are

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transform": self.transform.model_dump(mode="json")}

    def call(self, inputs: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        x, mask, lengths, rows = [], [], [], []
        for feature, name in zip(
            self.transform.features, input_names(self.transform).values(), strict=True
        ):
            values = self._input(inputs, name)
            if feature.kind == "jagged":
                values, length = self._padded(inputs, name, values)
                exists = tf.range(tf.shape(values, tf.int64)[1]) < length[:, tf.newaxis]
            else:
                values = tf.reshape(values, [-1, feature.width])
                exists = tf.ones_like(values, tf.bool)
            rows.append(tf.shape(values)[0])
            _check_rows(rows[-1], rows[0], name)
            scaled, real = _scaled(values, exists, feature)
            if feature.kind == "jagged":
                if feature.overflow == "error":
                    _refuse_overlong(length, feature)
                lengths.append(tf.cast(tf.minimum(length, feature.width), tf.int32))
            x.append(_fitted(scaled, feature.width))
            mask.append(_fitted(real, feature.width))
        return {
            "x": tf.concat(x, 1),
            "mask": tf.concat(mask, 1),
            "lengths": tf.stack(lengths, 1) if lengths else tf.zeros([rows[0], 0], tf.int32),
        }

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

    def _padded(
        self, inputs: Mapping[str, Any], name: str, values: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Values ``(n, m)`` and lengths ``(n,)`` int64 of a jagged input."""
        if isinstance(values, tf.RaggedTensor):
            return values.to_tensor(), tf.cast(values.row_lengths(), tf.int64)
        lengths = self._input(inputs, name + LENGTH)
        # else one length would be taken for all events
        _check_rows(tf.shape(lengths)[0], tf.shape(values)[0], name + LENGTH)
        width = tf.shape(values, tf.int64)[1]
        _refuse(
            (lengths < 0) | (lengths > width),
            lambda row: (
                f"input {name}{LENGTH} holds ",
                tf.strings.as_string(lengths[row]),
                ", which is not in 0..",
                tf.strings.as_string(width),
                f", the width of {name}",
            ),
        )
        return values, lengths


def _dtype(feature: FeatureTransform) -> tf.DType:
    try:
        return tf.as_dtype(input_dtype(feature))
    except TypeError:
        raise ConfigError(
            f"branch {feature.branch!r} is {feature.dtype}, which TensorFlow does not have: "
            "leave it out or write it in another type"
        ) from None


def _check_rows(rows: tf.Tensor, wanted: tf.Tensor, name: str) -> None:
    tf.debugging.assert_equal(rows, wanted, f"input {name} has another number of events")


def _scaled(
    values: tf.Tensor, exists: tf.Tensor, feature: FeatureTransform
) -> tuple[tf.Tensor, tf.Tensor]:
    """``(n, m)`` raw values to scaled ones, float32, and which of them are real, bool.

    Scaled in float64, as the reference does, so that large values lose digits only in the end.
    """
    wide = tf.where(exists, tf.cast(values, tf.float64), tf.constant(0, tf.float64))
    finite = tf.math.is_finite(wide)
    if values.dtype.is_floating and feature.missing is None:
        _refuse_values(~finite, feature, "holds NaN or infinity")
    filled = tf.where(finite, wide, tf.constant(feature.missing or 0.0, tf.float64))
    scaled = (filled - feature.center) * feature.factor
    if feature.may_overflow:
        too_large = exists & finite & (tf.abs(scaled) > LARGEST)
        _refuse_values(too_large, feature, "is too large for float32")
    return tf.where(exists, tf.cast(scaled, tf.float32), PAD_VALUE), exists & finite


def _fitted(values: tf.Tensor, width: int) -> tf.Tensor:
    """``(n, m)`` cut or padded (0, false) to ``(n, width)``."""
    kept = values[:, :width]
    fitted = tf.pad(kept, [[0, 0], [0, width - tf.shape(kept)[1]]])
    return tf.ensure_shape(fitted, [None, width])


def _refuse_values(bad: tf.Tensor, feature: FeatureTransform, reason: str) -> None:
    """Fail if any of the ``(n, m)`` flags is set."""
    _refuse(tf.reduce_any(bad, 1), lambda _: (f"{feature.branch} {reason}",))


def _refuse_overlong(lengths: tf.Tensor, feature: FeatureTransform) -> None:
    """Fail if an event has more values than the pad length."""
    _refuse(
        lengths > feature.width,
        lambda row: (
            f"{feature.branch} has ",
            tf.strings.as_string(lengths[row]),
            f" values, at most {feature.width} fit",
        ),
    )


def _refuse(bad: tf.Tensor, reason: Callable[[tf.Tensor], tuple[Any, ...]]) -> None:
    """Fail if any of the ``(n,)`` flags is set, with the reason of the first such event."""

    def fail() -> Any:
        row = tf.argmax(tf.cast(bad, tf.int8))
        place = (" (event ", tf.strings.as_string(row), " of those given)")
        return tf.debugging.Assert(False, [tf.strings.join([*reason(row), *place])])

    # the message is made only where it is needed; strings cost more than the transform
    tf.cond(tf.reduce_any(bad), fail, tf.no_op)
