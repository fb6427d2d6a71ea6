"""ONNX forms of torch operations for which the exporter has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import torch
from onnxscript import opset18 as op

import hepdata_adapters.torch.transform.objects  # noqa: F401 (registers side_by_side)


def stable_sort(
    values: Any, stable: bool = False, dim: int = -1, descending: bool = False
) -> tuple[Any, Any]:
    """``torch.sort``. ONNX's TopK is stable: of equal values the lower index comes first."""
    size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    found: tuple[Any, Any] = op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)
    return found


def side_by_side(columns: Sequence[Any], dim: int) -> Any:
    """Columns as float64, stacked."""
    axis = op.Constant(value_ints=[dim])
    wide = (op.Cast(column, to=onnx.TensorProto.DOUBLE) for column in columns)
    return op.Concat(*(op.Unsqueeze(column, axis) for column in wide), axis=dim)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.sort.stable: stable_sort,
    torch.ops.hepdata_adapters.side_by_side.default: side_by_side,
}
"""For ``torch.onnx.export``, by operation."""
