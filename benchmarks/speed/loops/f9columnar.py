"""F9Columnar: its chunk loader with the collate that pads, a dict of tensors a batch."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from f9columnar.ml.collate import CollateConfig
from f9columnar.pipeline.dataloader import get_chunk_dataloader
from f9columnar.pipeline.readers import get_chunk_reader

from benchmarks.speed.job import FloatArray, Job, Source


def source(job: Job) -> Source:
    """options: ``num_workers``, ``step_size`` (entries that are read and shuffled together)."""
    logging.disable(logging.INFO)
    modalities = {"events": list(job.flat)} | {
        name: list(members) for name, members in job.groups.items()
    }
    reader = get_chunk_reader(
        "root", fields=list(job.branches), key=job.tree, cache_factor=0.0
    )  # each entry is read once
    made = get_chunk_dataloader(
        "benchmark", list(job.files), reader, step_size=job.options["step_size"],
        num_workers=job.options["num_workers"], batch_size=job.batch_size, base_seed=job.seed,
        shuffle_chunks=True, shuffle_batch=True,
        collate_config=CollateConfig(
            modalities=modalities, layout="padding", max_lengths=job.length, pad_values=0.0
        ),
    )  # fmt: skip
    if made is None:
        raise ValueError("F9Columnar found no entries")
    loader = made[0]

    def rows(batch: Any) -> FloatArray:
        groups, _ = batch
        parts = [groups["events"][0][name].numpy()[:, None] for name in job.flat]
        parts += [
            groups[group][0][name].numpy() for group, members in job.groups.items()
            for name in members
        ]  # fmt: skip
        return np.hstack(parts)

    return Source(
        lambda: loader, lambda batch: len(batch[0]["events"][0][job.flat[0]]), rows,
        packages=("f9columnar", "torch", "uproot", "awkward", "numpy"),
    )  # fmt: skip
