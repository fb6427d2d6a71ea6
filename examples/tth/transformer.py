"""A transformer on the jets and fat jets of an event, beside its event-wide quantities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]


def make(shapes: Shapes, num_outputs: int) -> nn.Module:
    """The network for the inputs of transformer.yaml: sets ``(k, f)`` with masks, and ``x``."""
    return SetTransformer(shapes, num_outputs)


class SetTransformer(nn.Module):
    """Every object is a token, and so is the event as a whole, whose output is classified."""

    def __init__(
        self, shapes: Shapes, num_outputs: int, width: int = 64, heads: int = 4, layers: int = 3
    ) -> None:
        super().__init__()
        sets = [name for name in shapes if f"{name}_mask" in shapes]
        self.embeddings = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(shapes[name][1], width), nn.GELU(),
                                 nn.Linear(width, width)) for name in sets}
        )  # fmt: skip
        self.event = nn.Sequential(nn.Linear(shapes["x"][0], width), nn.GELU(),
                                   nn.Linear(width, width))  # fmt: skip
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(0.2),
            nn.Linear(width, num_outputs),
        )  # fmt: skip

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """``x (n, d)``, ``NAME (n, k, f)`` and ``NAME_mask (n, k)`` to logits ``(n, outputs)``."""
        tokens = [self.event(inputs["x"]).unsqueeze(1)]
        present = [torch.ones_like(inputs["x"][:, :1], dtype=torch.bool)]
        for name, embed in self.embeddings.items():
            tokens.append(embed(inputs[name]))
            present.append(inputs[f"{name}_mask"])
        values, mask = torch.cat(tokens, 1), torch.cat(present, 1)
        for block in self.blocks:
            values = block(values, mask)
        return self.head(values[:, 0])


class Block(nn.Module):
    """Self-attention among the real objects, then a small network for each of them."""

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """``(n, t, width)`` and ``(n, t)`` bool to ``(n, t, width)``."""
        n, tokens, width = values.shape
        shape = (n, tokens, 3, self.heads, width // self.heads)
        query, key, value = self.attend(self.before(values)).reshape(shape).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :]
        )
        found = self.join(found.transpose(1, 2).reshape(n, tokens, width))
        values = values + self.dropout(found)
        return values + self.dropout(self.network(self.after(values)))
