"""ROOT's own loader, ``ROOT.Experimental.ML.RDataLoader``, as NumPy arrays.

Its ``as_torch`` wraps the same memory in a tensor; the environment has no PyTorch to import.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.speed.job import FloatArray, Job, Source

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package says at each import that it is young
    import ROOT


def source(job: Job) -> Source:
    """options: ``threads`` of implicit multi-threading, ``loader``: arguments of RDataLoader."""
    if job.options.get("threads"):
        ROOT.EnableImplicitMT(job.options["threads"])
    frame = ROOT.RDataFrame(job.tree, list(job.files))
    loader = ROOT.Experimental.ML.RDataLoader(
        frame, batch_size=job.batch_size, columns=list(job.branches),
        max_vec_sizes=dict.fromkeys(job.jagged, job.length), vec_padding=0.0, shuffle=True,
        drop_remainder=False, set_seed=job.seed, **job.options.get("loader", {}),
    )  # fmt: skip

    def rows(batch: Any) -> FloatArray:
        return np.array(batch, np.float32)

    versions = {"ROOT": str(ROOT.__version__)}
    # the frame must live as long as its loader
    return Source(
        lambda: frame and loader.as_numpy(), len, rows, ("root", "numpy"), (0, 1), versions
    )
