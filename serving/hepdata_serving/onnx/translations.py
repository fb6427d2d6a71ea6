"""ONNX forms of torch operations for which the exporter has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op


def stable_sort(
    values: Any, stable: bool = False, dim: int = -1, descending: bool = False
) -> tuple[Any, Any]:
    """``torch.sort``. ONNX's TopK is stable: of equal values the lower index comes first."""
    size = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    found: tuple[Any, Any] = op.TopK(values, size, axis=dim, largest=int(descending), sorted=1)
    return found


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.sort.stable: stable_sort
}
"""For ``torch.onnx.export``, by operation."""
