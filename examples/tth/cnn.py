"""A convolutional network on jet images: the paper's matrix representation."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]


def make(shapes: Shapes, num_outputs: int) -> nn.Module:
    """The network for the inputs of image.yaml: an image ``(c, eta, phi)`` and ``x``."""
    return ImageNetwork(shapes, num_outputs)


class ImageNetwork(nn.Module):
    """Convolutions that go round in phi, joined with the event-wide quantities."""

    def __init__(self, shapes: Shapes, num_outputs: int, width: int = 32) -> None:
        super().__init__()
        channels = [shapes["jets"][0], width, width, 2 * width]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3) for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in channels[1:])
        self.head = nn.Sequential(
            nn.Linear(2 * width + shapes["x"][0], 64), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(64, num_outputs),
        )  # fmt: skip

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """``jets (n, c, eta, phi)`` and ``x (n, d)`` to logits ``(n, outputs)``."""
        image = torch.log1p(inputs["jets"])
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            image = functional.pad(image, (1, 1, 0, 0), mode="circular")  # phi is periodic
            image = functional.pad(image, (0, 0, 1, 1))
            image = torch.relu(norm(layer(image)))
            if number < 2:
                image = functional.max_pool2d(image, 2)
        pooled = image.amax(dim=(2, 3))
        return self.head(torch.cat([pooled, inputs["x"]], 1))
