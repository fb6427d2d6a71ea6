"""Events made for tests, with values that say which event and file they belong to."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import uproot

TYPES = {
    "MET": "float32",
    "run_number": "int64",
    "passes": "bool",
    "weight": "float64",
    "Jet_pt": "var * float32",
    "Jet_id": "var * int32",
}


def event_arrays(size: int, seed: int) -> dict[str, object]:
    """Columns of ``size`` events: flat, jagged, bool and 64-bit, some events without jets."""
    random = np.random.default_rng(seed)
    counts = random.poisson(3, size)
    counts[:: max(size // 7, 1)] = 0
    pt = random.exponential(40, counts.sum()).astype(np.float32)
    return {
        "MET": random.exponential(30, size).astype(np.float32),
        "run_number": np.int64(2**53) + np.arange(size),
        "passes": random.random(size) < 0.3,
        "weight": random.normal(1, 1, size),
        "Jet_pt": ak.unflatten(pt, counts),
        "Jet_id": ak.unflatten(np.arange(len(pt), dtype=np.int32), counts),
    }


def write_events(
    path: Path, size: int, seed: int = 0, *, step: int = 400, rntuple: bool = False
) -> Path:
    """A file with the tree ``Events``, in baskets (TTree) of ``step`` events."""
    arrays = event_arrays(size, seed)
    with uproot.recreate(path) as file:
        if rntuple:
            file["Events"] = arrays
            return path
        file.mktree("Events", TYPES)
        for start in range(0, size, step):
            file["Events"].extend({k: v[start : start + step] for k, v in arrays.items()})
    return path
