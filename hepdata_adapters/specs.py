"""Specs: learnt in one pass over the training events, merged, brought up to date, compared."""

from __future__ import annotations

from hepdata_adapters.common.specs.compute import compute_specs
from hepdata_adapters.common.specs.diff import Comparison, Drift, compare
from hepdata_adapters.common.specs.merge import merge_specs
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.update import update_specs

__all__ = [
    "Comparison",
    "Drift",
    "Specs",
    "compare",
    "compute_specs",
    "merge_specs",
    "update_specs",
]
