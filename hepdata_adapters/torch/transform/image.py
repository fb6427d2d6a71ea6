"""Images as an ``nn.Module``, for exported graphs; and sparse ones as torch's sparse tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.graph.image import dense_image
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.torch.transform.expressions import Padded
from hepdata_adapters.torch.transform.objects import TorchTensors, check_float64


class ImageModule(nn.Module):
    """Prepared columns to the dense image that the `ImageTransform` gives.

    Raises ConfigError for a sparse one: a graph has no sparse tensors.

    >>> from hepdata_adapters.common.transform.image import ImageBins
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
        for number, axis in enumerate(transform.axes):
            edges = torch.tensor(axis.edges, dtype=torch.float64)
            self.register_buffer(f"edges{number}", edges)

    def forward(self, columns: Mapping[str, Tensor | Padded]) -> tuple[dict[str, Tensor], Tensor]:
        """``{"": (n, c, b1, ...) float32}``, and ``(n,)`` bool, false where numpy's raises.

        The image of an event that is not valid means nothing. Raises BranchError for a branch
        that is not padded, ConfigError if the module was cast to another dtype than float64.
        """
        edges = list(self.buffers())
        check_float64(edges[0], "an image finds its cells")
        backend = TorchTensors()
        return dense_image(backend, columns, self.transform, edges), backend.valid


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
