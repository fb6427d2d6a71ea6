"""`root_dataset(...)`: our tf.data pipeline, iterated eagerly."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.job import CENTER, SCALE, FloatArray, Job, Source
from benchmarks.speed.loops.ours_features import features
from hepdata_adapters.tf import root_dataset


def source(job: Job) -> Source:
    """options: ``num_workers``, and ``dataset``: further keys of the dataset config."""
    dataset = root_dataset(
        list(job.files), features=features(job), batch_size=job.batch_size, seed=job.seed,
        progress=False, num_workers=job.options["num_workers"], **job.options.get("dataset", {}),
    )  # fmt: skip

    def rows(batch: Any) -> FloatArray:
        x: FloatArray = batch["x"].numpy()
        return x

    return Source(
        epoch=lambda: dataset, events=lambda batch: int(batch["x"].shape[0]), rows=rows,
        packages=("tensorflow", "uproot", "numpy", "numba", "cramjam"), affine=(CENTER, SCALE),
    )  # fmt: skip
