"""The loss of weighted events, the same as in PyTorch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.config.dataset_config import Task

HALF = tf.float16, tf.bfloat16
TINY = 2.2250738585072014e-308  # the smallest normal float64


@keras.saving.register_keras_serializable(package="hepdata_adapters")
class EventLoss(keras.losses.Loss):
    """Sum of weight x loss over the sum of absolute weights, a scalar.

    Cross entropy for classes, squared error for regression. Negative weights stay negative;
    padding rows have weight 0 and do not count (Keras would divide by the number of rows).
    from_logits: whether the network gives logits rather than probabilities. Computed in float32
    at least, in float64 where the targets need it, whatever the dtype of the network. Weights of
    any size are exact: only their shares in the sum are rounded.

    >>> loss = EventLoss("regression")
    >>> float(loss(tf.constant([1.0, 5.0]), tf.constant([2.0, 0.0]), tf.constant([3.0, 0.0])))
    1.0
    """

    def __init__(self, task: Task, from_logits: bool = True, name: str = "event_loss") -> None:
        super().__init__(name=name)
        self.task: Task = task
        self.from_logits = from_logits

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take label ``(n,)``, output ``(n,)``, ``(n, 1)`` or ``(n, classes)``, weight ``(n,)``."""
        losses = self.call(y_true, y_pred)
        if sample_weight is None:
            return tf.cast(tf.reduce_mean(losses), tf.float32)
        share = tf.cast(shares(sample_weight), losses.dtype)
        # other losses of the model, as those that keep its weights small, are float32
        return tf.cast(tf.reduce_sum(losses * share), tf.float32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each event, ``(n,)``."""
        label = tf.reshape(tf.convert_to_tensor(y_true), [-1])
        output = raised(tf.convert_to_tensor(y_pred))
        if self.task == "multiclass":
            return keras.losses.sparse_categorical_crossentropy(
                label, output, from_logits=self.from_logits
            )
        if self.task == "regression":
            return tf.square(difference(label, output))
        output = tf.reshape(output, [-1])
        label = tf.cast(label, output.dtype)
        if self.from_logits:
            return tf.nn.sigmoid_cross_entropy_with_logits(label, output)
        # Keras averages over the last axis, which must not be that of the events
        return keras.losses.binary_crossentropy(label[:, None], output[:, None])

    def get_config(self) -> dict[str, Any]:
        """What `keras.saving` stores."""
        return {"task": self.task, "from_logits": self.from_logits, "name": self.name}


def raised(output: Any) -> Any:
    """Half precision as float32, all else as it is."""
    return tf.cast(output, tf.float32) if output.dtype in HALF else output


def difference(label: Any, output: Any) -> Any:
    """Output minus target ``(n,)``, in a dtype that holds both exactly.

    >>> difference(tf.constant([67108865]), tf.constant([[67108864.0]])).numpy().tolist()
    [-1.0]
    """
    label, output = tf.reshape(label, [-1]), raised(tf.reshape(output, [-1]))
    narrow = label.dtype in HALF or label.dtype.size < 4 or label.dtype == tf.float32
    wide = output.dtype if narrow else tf.float64
    return tf.cast(output, wide) - tf.cast(label, wide)


def shares(weight: Any) -> Any:
    """Each weight over the sum of their absolute values, float64; zeros where all are zero.

    >>> shares(tf.constant([1e300, -3e300], tf.float64)).numpy().tolist()
    [0.25, -0.75]
    """
    weight = tf.cast(tf.reshape(weight, [-1]), tf.float64)
    largest = tf.maximum(tf.reduce_max(tf.abs(weight)), TINY)  # of no rows: -inf
    scaled = weight / largest  # so that no sum overflows
    return scaled / tf.maximum(tf.reduce_sum(tf.abs(scaled)), TINY)
