"""A network of one's own: normalisation, residual blocks, a single logit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """``x + f(x)`` with a small network f."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x))


def model(num_features: int) -> nn.Module:
    """``(n, num_features)`` to logits ``(n, 1)``."""
    return nn.Sequential(
        nn.Linear(num_features, 96), Residual(96, 0.3), Residual(96, 0.3), nn.Linear(96, 1)
    )
