"""Assertions for your own tests: that your configuration delivers every event exactly once.

They need no framework. The same from the command line: ``hepdata-adapters validate CONFIG
--delivery``.

>>> import tempfile, uproot, numpy as np
>>> path = tempfile.mkdtemp() + "/met.root"
>>> with uproot.recreate(path) as file:
...     _ = file.mktree("Events", {"MET": "float32"})
...     file["Events"].extend({"MET": np.arange(1000, dtype=np.float32)})
>>> print(assert_exactly_once(path, split="train", ranks=(1, 2), workers=(0, 2)).runs)
((1, 0), (1, 2), (2, 0), (2, 2))
>>> assert_resumes(path, global_batch_size=100, stops=[3, 7]).runs
((1, 0), (1, 2), (2, 1))
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.stream.dataset import Dataset, check_split
from hepdata_adapters.common.stream.delivery import (
    DEFAULT_RUNS,
    GLOBAL_BATCH,
    Delivery,
    DeliveryError,
    Run,
    exactly_once,
    resumes,
)
from hepdata_adapters.common.stream.prepare import Samples, prepare

__all__ = ["Delivery", "assert_exactly_once", "assert_resumes"]


def assert_exactly_once(
    samples: Samples | Dataset,
    *,
    split: SplitName | None = None,
    ranks: Sequence[int] = (1, 2, 3),
    workers: Sequence[int] = (1, 2),
    global_batch_size: int = GLOBAL_BATCH,
    shuffle: bool = True,
    epoch: int = 0,
    specs: Specs | str | Path | None = None,
    **options: Any,
) -> Delivery:
    """Every event comes once, in the same global batches for all numbers of ranks and workers.

    samples, split, specs and options are those of `RootIterableDataset`. Each combination of
    ``ranks`` and ``workers`` delivers one epoch, all in this process, reading one cheap branch
    beside what split and label need. global_batch_size: events of a batch of all ranks together,
    which the ranks must divide. Memory: one byte an event and eight a batch. What
    ``sampling.balance`` and ``resample`` change on purpose is not looked at.

    Raises AssertionError naming the first event that is lost or comes twice, or the first batch
    that differs; ConfigError, DataError or SpecsError as a dataset does.
    """
    check_split(split)
    dataset = prepare(samples, options, specs, progress=False)
    try:
        return exactly_once(
            dataset, split, runs=tuple(product(ranks, workers)),
            global_batch_size=global_batch_size, shuffle=shuffle, epoch=epoch,
        )  # fmt: skip
    except DeliveryError as error:
        raise AssertionError(str(error)) from error


def assert_resumes(
    samples: Samples | Dataset,
    *,
    split: SplitName | None = None,
    stops: Sequence[int] | None = None,
    runs: Sequence[Run] = DEFAULT_RUNS,
    global_batch_size: int = GLOBAL_BATCH,
    shuffle: bool = True,
    epoch: int = 0,
    specs: Specs | str | Path | None = None,
    **options: Any,
) -> Delivery:
    """An epoch that is interrupted goes on at the exact next event, on other ranks and workers.

    stops: the global batches before which to interrupt; by default after the first, in the
    middle and before the last. runs: (ranks, workers) of each stretch, in turn. The state
    between them is JSON of at most 4 KiB. Other arguments as in `assert_exactly_once`.

    Raises AssertionError naming the first batch that is not the one of an uninterrupted epoch.
    """
    check_split(split)
    dataset = prepare(samples, options, specs, progress=False)
    try:
        return resumes(
            dataset, split, stops=stops, runs=runs, global_batch_size=global_batch_size,
            shuffle=shuffle, epoch=epoch,
        )  # fmt: skip
    except DeliveryError as error:
        raise AssertionError(str(error)) from error
