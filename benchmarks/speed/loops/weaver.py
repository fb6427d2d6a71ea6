"""weaver-core: `SimpleIterDataset` in a DataLoader, as its ``train.py`` makes them."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.utils.data import DataLoader
from weaver.utils.dataset import SimpleIterDataset

from benchmarks.speed.job import FloatArray, Job, Source


def source(job: Job) -> Source:
    """options: ``num_workers``, and ``dataset``: arguments of SimpleIterDataset."""
    logging.disable(logging.INFO)  # it lists the files of each epoch
    torch.manual_seed(job.seed)
    np.random.seed(job.seed)
    # no standardisation: the values as they are
    inputs: dict[str, Any] = {
        name: {"length": job.length, "vars": [[member, None] for member in members]}
        for name, members in job.groups.items()
    }
    flat = {"length": None, "vars": [[name, None] for name in job.flat]}
    config = {
        "treename": job.tree,
        "preprocess": {"method": "manual", "params": None},
        "inputs": {"flat": flat} | inputs,
        "labels": {"type": "custom", "value": {"zero": f"{job.flat[0]} * 0"}},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.yaml"
        path.write_text(yaml.safe_dump(config))
        dataset = SimpleIterDataset(
            {"all": list(job.files)}, str(path), for_training=True, name="train",
            **job.options["dataset"],
        )  # fmt: skip
    workers = job.options["num_workers"]
    loader = DataLoader(
        dataset, batch_size=job.batch_size, num_workers=workers, persistent_workers=workers > 0
    )

    def rows(batch: Any) -> FloatArray:
        x, _, _ = batch
        parts = [x["flat"].numpy()]
        parts += [x[name].numpy().reshape(len(parts[0]), -1) for name in job.groups]
        return np.hstack(parts)

    return Source(
        lambda: loader, lambda batch: len(batch[0]["flat"]), rows,
        packages=("weaver-core", "torch", "uproot", "awkward", "numpy"),
    )  # fmt: skip
