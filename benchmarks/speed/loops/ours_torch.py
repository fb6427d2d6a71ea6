"""`RootIterableDataset(...).loader(...)`: what the README recommends."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.job import CENTER, SCALE, FloatArray, Job, Source
from benchmarks.speed.loops.ours_features import features
from hepdata_adapters.torch import RootIterableDataset


def source(job: Job) -> Source:
    """options: ``num_workers``, and ``dataset``: further keys of the dataset config."""
    dataset = RootIterableDataset(
        list(job.files), features=features(job), batch_size=job.batch_size, seed=job.seed,
        progress=False, **job.options.get("dataset", {}),
    )  # fmt: skip
    loader = dataset.loader(num_workers=job.options["num_workers"])

    def rows(batch: Any) -> FloatArray:
        x: FloatArray = batch["x"].numpy()
        return x

    return Source(
        epoch=lambda: loader, events=lambda batch: len(batch["x"]), rows=rows,
        packages=("torch", "uproot", "numpy", "numba", "cramjam"), affine=(CENTER, SCALE),
    )  # fmt: skip
