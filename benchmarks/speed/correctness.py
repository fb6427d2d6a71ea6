"""Rows that a system delivered, compared with plain uproot: every value, bit by bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from benchmarks.speed.job import FloatArray
from benchmarks.speed.workloads import LENGTH, Workload

SAMPLE = 1000


@dataclass(frozen=True)
class Truth:
    """event_ids of the sample, in order, and their rows as uproot has them, not scaled.

    present: which values are real, the rest is padding.
    """

    ids: NDArray[np.int64]
    rows: FloatArray
    present: NDArray[np.bool_]


def truth(workload: Workload, paths: list[Path], seed: int = 0) -> Truth:
    """Random events of all files of a workload, by ``TTree.arrays`` and nothing else of ours."""
    random = np.random.default_rng(seed)
    size = min(SAMPLE, workload.events)
    ids = np.sort(random.choice(workload.events, size, replace=False))
    rows, present = [], []
    for number, path in enumerate(paths[: workload.used]):
        first = number * workload.inputs.events
        entries = ids[(ids >= first) & (ids < first + workload.inputs.events)] - first
        with uproot.open(f"{path}:Events") as tree:
            columns = [tree[name].array()[entries] for name in workload.flat]
            parts = [ak.to_numpy(column)[:, None].astype(np.float32) for column in columns]
            real = [np.ones(part.shape, np.bool_) for part in parts]
            for members in workload.groups.values():
                for name in members:
                    values = ak.pad_none(tree[name].array()[entries], LENGTH, clip=True)
                    parts.append(ak.to_numpy(ak.fill_none(values, 0)).astype(np.float32))
                    real.append(~ak.to_numpy(ak.is_none(values, axis=1)))
        rows.append(np.hstack(parts))
        present.append(np.hstack(real))
    found = Truth(ids, np.concatenate(rows), np.concatenate(present))
    if not np.array_equal(found.rows[:, 0].astype(np.int64), ids):
        raise ValueError(f"{workload.key}: event_id does not number the events of its files")
    return found


def compare(
    truth: Truth,
    delivered: FloatArray,
    affine: tuple[float, float],
    events: int,
    counts: dict[str, int],
) -> dict[str, Any]:
    """How many events of the sample came exactly once with all values equal, and what was wrong.

    delivered: rows of the sample as a system had them, in any order. affine: center and scale of
    their values. counts: events, and distinct ones, of the whole epoch.
    """
    center, scale = affine
    wanted = ((truth.rows.astype(np.float64) - center) / scale).astype(np.float32)
    wanted[~truth.present] = 0
    ids = np.rint(delivered[:, 0].astype(np.float64) * scale + center).astype(np.int64)
    order = np.argsort(ids, kind="stable")
    known, times = np.unique(ids, return_counts=True)
    once = known[times == 1]
    rows = delivered[order][np.isin(ids[order], once)]
    places = np.searchsorted(truth.ids, once)
    same = (rows.view(np.uint32) == wanted[places].view(np.uint32)).all(axis=1)
    missing = len(np.setdiff1d(truth.ids, known))
    return {
        "sample": len(truth.ids), "equal": int(same.sum()), "different": int((~same).sum()),
        "missing": missing, "repeated": int((times > 1).sum()),
        "lost": events - counts["distinct"], "extra": counts["events"] - counts["distinct"],
    }  # fmt: skip
