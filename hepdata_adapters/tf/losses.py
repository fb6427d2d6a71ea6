"""The loss of weighted events, the same as in PyTorch."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.config import Task

TINY = 1.17549435e-38  # the smallest normal float32


@keras.saving.register_keras_serializable(package="hepdata_adapters")
class EventLoss(keras.losses.Loss):
    """Sum of weight x loss over the sum of absolute weights, a scalar.

    Cross entropy for classes, squared error for regression. Negative weights stay negative;
    padding rows have weight 0 and do not count (Keras would divide by the number of rows).
    from_logits: whether the network gives logits rather than probabilities.

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
            return tf.reduce_mean(losses)
        weight = tf.cast(tf.reshape(sample_weight, [-1]), losses.dtype)
        return tf.reduce_sum(losses * weight) / tf.maximum(tf.reduce_sum(tf.abs(weight)), TINY)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each event, ``(n,)``."""
        label = tf.reshape(tf.convert_to_tensor(y_true), [-1])
        output = tf.convert_to_tensor(y_pred)
        if self.task == "multiclass":
            return keras.losses.sparse_categorical_crossentropy(
                label, output, from_logits=self.from_logits
            )
        output = tf.reshape(output, [-1])
        label = tf.cast(label, output.dtype)
        if self.task == "regression":
            return tf.square(output - label)
        if self.from_logits:
            return tf.nn.sigmoid_cross_entropy_with_logits(label, output)
        # Keras averages over the last axis, which must not be that of the events
        return keras.losses.binary_crossentropy(label[:, None], output[:, None])

    def get_config(self) -> dict[str, Any]:
        """What `keras.saving` stores."""
        return {"task": self.task, "from_logits": self.from_logits, "name": self.name}
