"""uproot and awkward as users write it: iterate, pad, shuffle in the step, file by file."""

from __future__ import annotations

from collections.abc import Iterator

import awkward as ak
import numpy as np
import torch
import uproot

from benchmarks.speed.job import FloatArray, Job, Source


def source(job: Job) -> Source:
    """options: ``step_size``, entries that are read and shuffled together."""
    random = np.random.default_rng(job.seed)
    paths = [f"{path}:{job.tree}" for path in job.files]
    jagged = set(job.jagged)

    def epoch() -> Iterator[torch.Tensor]:
        steps = uproot.iterate(paths, list(job.branches), step_size=job.options["step_size"])
        for arrays in steps:
            columns = []
            for name in job.branches:
                values = arrays[name]
                if name in jagged:
                    values = ak.fill_none(ak.pad_none(values, job.length, clip=True), 0)
                    columns.append(ak.to_numpy(values))
                else:
                    columns.append(ak.to_numpy(values)[:, None])
            x = np.hstack(columns).astype(np.float32)[random.permutation(len(arrays))]
            for start in range(0, len(x), job.batch_size):
                yield torch.from_numpy(x[start : start + job.batch_size])

    def rows(batch: torch.Tensor) -> FloatArray:
        x: FloatArray = batch.numpy()
        return x

    return Source(epoch, len, rows, packages=("uproot", "awkward", "numpy", "torch"))
