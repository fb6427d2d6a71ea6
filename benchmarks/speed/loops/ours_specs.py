"""Our specs pass, which happens once before the first training: one batch is all its events."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed.job import Job, Source
from benchmarks.speed.loops.ours_features import features
from hepdata_adapters import DatasetConfig, compute_specs


def source(job: Job) -> Source:
    """options: ``processes``, and ``dataset``: further keys of the dataset config."""
    config = DatasetConfig.model_validate(
        {"samples": [{"files": job.files, "tree": job.tree}], "features": features(job)}
        | job.options.get("dataset", {})
    )

    def epoch() -> Iterator[int]:
        specs = compute_specs(config, processes=job.options["processes"])
        yield specs.events()

    return Source(
        epoch=epoch, events=int, rows=None, packages=("uproot", "numpy", "numba", "cramjam")
    )
