"""Networks: the paper's, and whatever the user's factory returns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hepdata_adapters.common.config.training_config import ModelConfig
from hepdata_adapters.common.config.user_model import (
    ModelShape,
    call_factory,
    only_vector,
    wrong_kind,
)


class FeedForward(nn.Sequential):
    """The paper's network (sect. 4.2): 128 and 64 neurons, dropout 0.5 between layers.

    ``(n, d)`` float32 to logits ``(n, num_outputs)``.

    >>> import torch
    >>> FeedForward(10)(torch.zeros(3, 10)).shape
    torch.Size([3, 1])
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int = 1,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.5,
    ) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(num_features, size), nn.ReLU(), nn.Dropout(dropout)]
            num_features = size
        super().__init__(*layers, nn.Linear(num_features, num_outputs))


def build_model(config: ModelConfig, shape: ModelShape, num_outputs: int) -> nn.Module:
    """The network of a config: the user's factory if there is one, else the paper's.

    Raises ConfigError if the factory cannot be found, fails, or returns no module.
    """
    if config.factory is None:
        num_features = only_vector(shape)
        return FeedForward(num_features, num_outputs, config.hidden, config.dropout)
    made = call_factory(config.factory, shape, num_outputs)
    if not isinstance(made, nn.Module):
        raise wrong_kind(config.factory, made, "torch.nn.Module")
    return made
