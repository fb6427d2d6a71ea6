"""Weights of events, checked; those of cross sections come as constants, see `cross_sections`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.columns import Column
from hepdata_adapters.common.events.targets import flat_values, refuse_values
from hepdata_adapters.common.files.manifest import FileInfo


def weights_of(
    sample: Sample,
    file: FileInfo,
    columns: Mapping[str, Column],
    rows: NDArray[np.int64],
    start: int,
) -> NDArray[np.float64]:
    """Event weights, ``(n,)`` float64, sign kept; raises InvalidValueError for NaN and infinity."""
    name = sample.weight.branch
    if name is None:
        return np.full(len(rows), sample.weight.constant)
    values = flat_values(columns[name])[rows]
    refuse_values(
        ~np.isfinite(values), values, "the weight must be finite", file, name, rows, start
    )
    return values.astype(np.float64) * sample.weight.constant
