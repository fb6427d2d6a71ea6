"""A Keras network of one's own: normalisation, residual blocks, a single logit."""

from __future__ import annotations

import keras


def model(num_features: int) -> keras.Model:
    """``(n, num_features)`` to logits ``(n, 1)``."""
    x = keras.Input((num_features,), name="x")
    hidden = keras.layers.Dense(96)(x)
    for _ in range(2):
        body = keras.layers.LayerNormalization()(hidden)
        body = keras.layers.Dense(96, activation="gelu")(body)
        hidden = keras.layers.Add()([hidden, keras.layers.Dropout(0.3)(body)])
    return keras.Model(x, keras.layers.Dense(1)(hidden))
