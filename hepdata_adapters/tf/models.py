"""Keras networks: the paper's, and whatever the user's factory returns; and what they score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from hepdata_adapters.common.config import ModelConfig, Task
from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.factory import call_factory, wrong_kind


def feed_forward(
    num_features: int,
    num_outputs: int = 1,
    hidden: Sequence[int] = (128, 64),
    dropout: float = 0.5,
) -> keras.Model:
    """The paper's network (sect. 4.2): 128 and 64 neurons, dropout 0.5 between layers.

    ``(n, d)`` float32 to logits ``(n, num_outputs)``.

    >>> feed_forward(10).output_shape
    (None, 1)
    """
    layers: list[keras.Layer] = [keras.Input((num_features,), name="x")]
    for size in hidden:
        layers += [keras.layers.Dense(size, activation="relu"), keras.layers.Dropout(dropout)]
    return keras.Sequential([*layers, keras.layers.Dense(num_outputs)])


def build_model(config: ModelConfig, num_features: int, num_outputs: int) -> keras.Model:
    """The network of a config, with weights: the user's factory if there is one, else the paper's.

    Raises ConfigError if the factory cannot be found, fails, or returns no Keras model, or if
    Keras runs on another framework.
    """
    if keras.config.backend() != "tensorflow":
        raise ConfigError(
            f"Keras runs on {keras.config.backend()!r} here: set KERAS_BACKEND=tensorflow"
        )
    if config.factory is None:
        return feed_forward(num_features, num_outputs, config.hidden, config.dropout)
    net = call_factory(config.factory, num_features, num_outputs)
    if not isinstance(net, keras.Model):
        raise wrong_kind(config.factory, net, "keras.Model")
    try:
        net(keras.ops.zeros((1, num_features), "float32"))  # makes weights that wait for a shape
    except Exception as error:  # the user's layers may raise anything
        raise ConfigError(
            f"the model of {config.factory!r} does not take (n, {num_features}): {error}"
        ) from error
    return net


def gives_probabilities(net: keras.Model, task: Task) -> bool:
    """Whether the network ends with a sigmoid or softmax; else its outputs are logits.

    Keras models usually have the activation inside, PyTorch's do not; both are welcome. A model
    whose last layer cannot be seen (a subclass with its own ``call``) gives logits.

    >>> gives_probabilities(keras.Sequential([keras.Input((3,)), keras.layers.Dense(
    ...     1, activation="sigmoid")]), "binary")
    True
    """
    if task == "regression":
        return False
    last = _last_layer(net)
    if isinstance(last, keras.layers.Softmax):
        return True
    activation = getattr(last, "activation", None)
    return activation in (keras.activations.sigmoid, keras.activations.softmax)


def _last_layer(net: keras.Model) -> Any:
    layer: Any = net
    while isinstance(layer, keras.Model):
        outputs = getattr(layer, "outputs", None)
        if not outputs:
            return None
        made_by = outputs[0]._keras_history.operation
        if made_by is layer:
            return None
        layer = made_by
    return layer


def build_scorer(net: keras.Model, num_features: int, task: Task) -> keras.Model:
    """The network with the activation of its task: what is evaluated and served.

    ``x (n, d)`` float32 to scores: ``(n,)`` probability of class 1 (binary) or value
    (regression), ``(n, classes)`` probabilities (multiclass). Shares the weights of ``net``.
    Raises ConfigError for an output of another shape.

    >>> build_scorer(feed_forward(4, 3), 4, "multiclass").output_shape
    (None, 3)
    """
    x = keras.Input((num_features,), name="x", dtype="float32")
    scores = net(x)
    shape = tuple(scores.shape)
    if task == "multiclass":
        if len(shape) != 2:
            raise ConfigError(f"a multiclass model must return (n, classes), not {shape}")
    elif shape == (None, 1):
        scores = keras.ops.squeeze(scores, axis=1)
    elif shape != (None,):
        raise ConfigError(f"a {task} model must return (n,) or (n, 1), not {shape}")
    if task != "regression" and not gives_probabilities(net, task):
        activate = keras.ops.sigmoid if task == "binary" else keras.ops.softmax
        scores = activate(scores)
    return keras.Model(x, scores, name="scorer")
