"""Padded sets of objects in the operations of a backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hepdata_adapters.common.transform.graph.backend import TensorBackend
from hepdata_adapters.common.transform.graph.objects import members
from hepdata_adapters.common.transform.sets import SetTransform


def padded_set(
    backend: TensorBackend,
    columns: Mapping[str, Any],
    transform: SetTransform,
    encode: Callable[[Any], tuple[Any, Any, Any]],
    fill: Any,
    pad: Any,
) -> dict[str, Any]:
    """Prepared columns to "" ``(n, k, f)`` and "_mask" ``(n, k)``, as the `SetTransform` does.

    encode: of a float32 set, ``(n, m, f)`` float64 to values, which are real, and which refused.
    fill, pad: float64 tensors of `fills` and of the pad. Raises BranchError for a branch that is
    not padded.
    """
    objects = members(backend, columns, transform.branches)
    wide = "int64" if transform.dtype == "int64" else "float64"
    features = [backend.cast(objects.values[name], wide) for name in transform.branches]
    values = backend.stack(features, 2)
    if transform.dtype == "float32":
        values, _, refused = encode(values)
    elif transform.dtype == "float64":
        values = backend.math.where(backend.math.isfinite(values), values, fill)
        refused = backend.math.isnan(values)
    else:
        refused = values != values  # none
    reason = "holds NaN, infinity or a value that its scaling does not allow"
    backend.refuse_columns(refused, objects.present, transform.branches, reason)
    if transform.overflow == "error":
        given, most = f"{transform.branches[0]} has ", f" objects, at most {transform.length} fit"
        backend.refuse(objects.lengths > transform.length, given, objects.lengths, most)
    mask = backend.places(transform.length, values) < backend.expand(objects.lengths, 1)
    kept = backend.fitted(values, transform.length)
    pad = backend.cast(pad, transform.dtype)
    return {"": backend.math.where(backend.expand(mask, 2), kept, pad), "_mask": mask}


def fills(transform: SetTransform) -> list[float]:
    """By feature, what stands for a NaN or infinity; NaN stays where nothing may replace it."""
    return [math.nan if f.missing is None else f.missing for f in transform.features]
