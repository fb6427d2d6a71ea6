"""Images as an ``nn.Module``, for exported graphs; and sparse ones as torch's sparse tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.scaling import LARGEST
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.objects import fitted, members, none_of
from hepdata_adapters.torch.transform.search import last_not_above


class ImageModule(nn.Module):
    """Prepared columns to the dense image that the `ImageTransform` gives.

    Raises ConfigError for a sparse one: a graph has no sparse tensors.

    >>> module = ImageModule(ImageTransform(axes=(ImageBins(branch="eta", edges=(-1, 0, 1)),)))
    >>> eta = Padded(torch.tensor([[0.5, 0.7], [-0.5, 9.0]]), torch.tensor([2, 1]))
    >>> arrays, valid = module({"eta": eta})
    >>> arrays[""].tolist(), valid.tolist()
    ([[[0.0, 2.0]], [[1.0, 0.0]]], [True, True])
    """

    def __init__(self, transform: ImageTransform) -> None:
        super().__init__()
        if transform.sparse:
            raise ConfigError("a sparse image cannot be part of a graph: set sparse to false")
        self.transform = transform
        self.axes = nn.ModuleList(map(_Axis, transform.axes))

    def forward(self, columns: Mapping[str, Tensor | Padded]) -> tuple[dict[str, Tensor], Tensor]:
        """``{"": (n, c, b1, ...) float32}``, and ``(n,)`` bool, false where numpy's raises.

        The image of an event that is not valid means nothing. Raises BranchError for a branch
        that is not padded, ConfigError if the module was cast to another dtype than float64.
        """
        transform = self.transform
        objects = members(columns, transform.branches)
        valid = objects.valid
        inside = objects.present
        cell = torch.zeros_like(inside, dtype=torch.int64)
        for axis, find in zip(transform.axes, self.axes, strict=True):
            values = objects.values[axis.branch].to(torch.float64)
            if transform.center == "leading":
                values = values - fitted(values, 1)
            found, has_bin = find(values)
            cell = cell * axis.bins + found
            inside = inside & has_bin
        if transform.outside == "error":
            valid = valid & none_of(objects.present & ~inside)
        weights = []
        for channel in transform.channels:
            if channel is None:
                weights.append(inside.to(torch.float64))
                continue
            weight = objects.values[channel].to(torch.float64)
            valid = valid & none_of(objects.present & ~torch.isfinite(weight))
            weights.append(torch.where(inside, weight, 0))
        sums = _sums(cell, torch.stack(weights, 1), transform.cells)
        valid = valid & none_of(~(sums.abs() <= LARGEST))
        image = sums.to(torch.float32).reshape(-1, len(transform.channels), *transform.bins)
        return {"": image.movedim(1, -1) if transform.channels_last else image}, valid


def _sums(cell: Tensor, weights: Tensor, cells: int) -> Tensor:
    """``cell (n, m)`` and ``weights (n, c, m)``, 0 for what is in none, to ``(n, c, cells)``."""
    events, channels, _ = weights.shape
    return weights.new_zeros(events, channels, cells).scatter_add(
        2, cell.unsqueeze(1).expand(-1, channels, -1), weights
    )


class _Axis(nn.Module):
    """The bin of each value, and whether it has one: `ImageBins` in operations that ONNX has."""

    edges: Tensor

    def __init__(self, axis: ImageBins) -> None:
        super().__init__()
        self.bins = axis.bins
        self.periodic = axis.periodic
        # a buffer, because an ONNX graph would round Python floats to float32
        self.register_buffer("edges", torch.tensor(axis.edges, dtype=torch.float64))

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, m)`` float64 to ``(n, m)`` int64 and bool."""
        if self.edges.dtype != torch.float64:
            raise ConfigError(
                f"an image finds its cells in float64 and was cast to {self.edges.dtype}: "
                "cast the model behind it, not both"
            )
        first, last = self.edges[0], self.edges[-1]
        if self.periodic:
            rest = torch.fmod(values - first, last - first)
            rest = torch.where(rest < 0, rest + (last - first), rest)
            within = (values >= first) & (values < last)
            values = torch.where(within, values, first + rest)
        place = last_not_above(values, self.edges, 0, self.bins)  # the last edge ends a bin
        return place, (values >= first) & (values <= last)


def to_sparse(cells: Tensor, values: Tensor, offsets: Tensor, shape: Sequence[int]) -> Tensor:
    """A batch of sparse images as one coalesced COO tensor ``(n, *shape)`` float32.

    cells ``(m, ndim + 1)`` int64, values ``(m,)`` float32 and offsets ``(n + 1,)`` int64 as an
    `ImageTransform` of this ``shape`` gives them.

    >>> to_sparse(torch.tensor([[0, 1]]), torch.tensor([3.0]), torch.tensor([0, 0, 1]),
    ...           (1, 2)).to_dense().tolist()
    [[[0.0, 0.0]], [[0.0, 3.0]]]
    """
    lengths = offsets.diff()
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return torch.sparse_coo_tensor(
        torch.cat([rows.unsqueeze(0), cells.T]),
        values,
        (len(lengths), *shape),
        is_coalesced=True,
        check_invariants=True,
    )
