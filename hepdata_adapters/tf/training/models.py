"""Keras networks: the paper's, and whatever the user's factory returns; and what they score."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.config.dataset_config import Task
from hepdata_adapters.common.config.training_config import ModelConfig
from hepdata_adapters.common.config.user_model import (
    ModelShape,
    call_factory,
    only_vector,
    wrong_kind,
)
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.pipeline import Transform

HALF = "float16", "bfloat16"
ModelInputs = int | Mapping[str, tf.TensorSpec]
"""What a model takes: d columns of ``x``, or a dict of tensors by name."""


def model_inputs(transform: Transform) -> ModelInputs:
    """What a model of this transform takes. Raises ConfigError for a ragged representation."""
    if not transform.inputs:
        return transform.num_features
    specs: dict[str, tf.TensorSpec] = {}
    for name, values in transform.empty.items():
        if isinstance(values, Jagged):
            raise ConfigError(
                f"inputs: {name!r} is ragged, and a Keras model here takes dense tensors: use a "
                f"set, or train on root_dataset(…) in a loop of your own"
            )
        specs[name] = tf.TensorSpec((None, *values.shape[1:]), tf.as_dtype(values.dtype), name)
    return specs


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
    policy = keras.config.dtype_policy()
    # with mixed precision the outputs must not be rounded
    last = "float32" if policy.compute_dtype in HALF else policy
    return keras.Sequential([*layers, keras.layers.Dense(num_outputs, dtype=last)])


def build_model(config: ModelConfig, inputs: ModelInputs, num_outputs: int) -> keras.Model:
    """The network of a config, with weights: the user's factory if there is one, else the paper's.

    A functional model takes all inputs in a dict, or some of them, found by name, in a list.

    Raises ConfigError if the factory cannot be found, fails, or returns no Keras model, if that
    takes other inputs, or if Keras runs on another framework.
    """
    if keras.config.backend() != "tensorflow":
        raise ConfigError(
            f"Keras runs on {keras.config.backend()!r} here: set KERAS_BACKEND=tensorflow"
        )
    shape: ModelShape = (
        inputs
        if isinstance(inputs, int)
        else {name: tuple(spec.shape[1:]) for name, spec in inputs.items()}
    )
    if config.factory is None:
        return feed_forward(only_vector(shape), num_outputs, config.hidden, config.dropout)
    net = call_factory(config.factory, shape, num_outputs)
    if not isinstance(net, keras.Model):
        raise wrong_kind(config.factory, net, "keras.Model")
    try:
        _try(net, inputs)  # makes weights that wait for a shape
    except Exception as error:  # the user's layers may raise anything
        raise ConfigError(
            f"the model of {config.factory!r} does not take {_described(inputs)}: {error}"
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


def build_scorer(net: keras.Model, inputs: ModelInputs, task: Task) -> keras.Model:
    """The network with the activation of its task: what is evaluated and served.

    ``x (n, d)`` float32 (or a dict of tensors) to scores: ``(n,)`` probability of class 1
    (binary) or value (regression), ``(n, classes)`` probabilities (multiclass). Shares the weights
    of ``net``; half precision is raised to float32. Raises ConfigError for an output of another
    shape.

    >>> build_scorer(feed_forward(4, 3), 4, "multiclass").output_shape
    (None, 3)
    """
    given = _symbolic(inputs)
    scores = net(given)
    if scores.dtype in HALF:
        scores = keras.ops.cast(scores, "float32")
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
    return keras.Model(given, scores, name="scorer")


def _symbolic(inputs: ModelInputs) -> Any:
    if isinstance(inputs, int):
        return keras.Input((inputs,), name="x", dtype="float32")
    return {
        name: keras.Input(tuple(spec.shape[1:]), name=name, dtype=spec.dtype.name)
        for name, spec in inputs.items()
    }


def _try(net: keras.Model, inputs: ModelInputs) -> None:
    """Call the network once; raises whatever it raises."""
    with warnings.catch_warnings():
        if isinstance(inputs, Mapping):
            # Keras only warns where a dict of inputs lacks some, and pairs them by the order of
            # their names: a network of muons would be given electrons
            warnings.filterwarnings("error", "The structure of `inputs` doesn't match")
        net(_zeros(inputs))


def _zeros(inputs: ModelInputs) -> Any:
    if isinstance(inputs, int):
        return keras.ops.zeros((1, inputs), "float32")
    return {name: tf.zeros((1, *spec.shape[1:]), spec.dtype) for name, spec in inputs.items()}


def _described(inputs: ModelInputs) -> str:
    if isinstance(inputs, int):
        return f"(n, {inputs})"
    return ", ".join(f"{name} {tuple(spec.shape)}" for name, spec in inputs.items())
