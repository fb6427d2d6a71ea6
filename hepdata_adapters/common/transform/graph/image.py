"""Dense images in the operations of a backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hepdata_adapters.common.transform.graph.backend import TensorBackend
from hepdata_adapters.common.transform.graph.objects import members
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.scaling import LARGEST


def dense_image(
    backend: TensorBackend,
    columns: Mapping[str, Any],
    transform: ImageTransform,
    edges: Sequence[Any],
) -> dict[str, Any]:
    """Prepared columns to ``{"": (n, c, b1, ...) float32}``, as the `ImageTransform` gives it.

    edges: of each axis, float64 tensors. Raises BranchError for a branch that is not padded.
    """
    objects = members(backend, columns, transform.branches)
    inside = objects.present
    cell: Any = 0
    for axis, table in zip(transform.axes, edges, strict=True):
        values = backend.cast(objects.values[axis.branch], "float64")
        if transform.center == "leading":
            values = values - backend.fitted(values, 1)
        found, has_bin = _find(backend, values, axis, table)
        cell = cell * axis.bins + found
        inside = inside & has_bin
    if transform.outside == "error":
        branch = transform.axes[0].branch
        backend.refuse(objects.present & ~inside, f"{branch} lies outside the image")
    weights: list[Any] = []
    for channel in transform.channels:
        if channel is None:
            weights.append(None)  # 1 each
            continue
        weights.append(backend.cast(objects.values[channel], "float64"))
        infinite = objects.present & ~backend.math.isfinite(weights[-1])
        backend.refuse(infinite, f"{channel} holds NaN or infinity")
    # of the objects inside, float64, in the order of axes that suits the backend
    sums = backend.cell_sums(cell, weights, inside, transform)
    # written so that NaN is refused
    backend.refuse(~(abs(sums) <= LARGEST), "a cell adds up to more than float32 holds")
    return {"": backend.images(backend.cast(sums, "float32"), transform)}


def _find(backend: TensorBackend, values: Any, axis: ImageBins, edges: Any) -> tuple[Any, Any]:
    """The bin of each value ``(n, m)``, and whether it has one; as `ImageBins.find`."""
    first, last = edges[0], edges[-1]
    if axis.periodic:
        rest = backend.fmod(values - first, last - first)
        rest = backend.math.where(rest < 0, rest + (last - first), rest)
        within = (values >= first) & (values < last)
        values = backend.math.where(within, values, first + rest)
    return backend.last_not_above(values, edges), (values >= first) & (values <= last)
