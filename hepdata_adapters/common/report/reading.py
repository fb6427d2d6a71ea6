"""The training events of a dataset, in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Columns, take_all
from hepdata_adapters.common.events.selection import deciding_branches
from hepdata_adapters.common.events.targets import target_branches
from hepdata_adapters.common.events.unit_events import UnitEvents, read_unit
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.runs.run_folder import output_names
from hepdata_adapters.common.stream.dataset import Dataset

BLOCK = 16_384
MAX_GROUPS = 8
"""Curves that one picture can hold."""


@dataclass(frozen=True, eq=False)
class Block:
    """n events. group: ``(n,)`` int64, see `group_names`; weight: ``(n,)`` float64, signed."""

    columns: Columns
    group: NDArray[np.int64]
    weight: NDArray[np.float64]


def group_names(dataset: Dataset) -> list[str]:
    """What the events are coloured by: classes, or samples where there are no classes.

    At most `MAX_GROUPS`; the last one then holds all others.
    """
    samples = dataset.config.samples
    if not _by_class(dataset):
        return _few([sample.name for sample in samples])
    classes = len(output_names(dataset))
    return _few([_class_name(dataset, number) for number in range(classes)])


def shares(dataset: Dataset, events: int | None) -> list[int]:
    """How many training events to read of each file, from its start: all, or about ``events``.

    Each file gives its part, but one at least.
    """
    found = [
        int(dataset.specs.counts(n, "train").sum()) for n in range(len(dataset.manifest.files))
    ]
    total = sum(found)
    if events is None or events >= total:
        return found
    return [max(1, round(count * events / total)) if count else 0 for count in found]


def training_blocks(dataset: Dataset, wanted: list[int]) -> Iterator[Block]:
    """The first ``wanted`` training events of each file, as prepared columns.

    Raises the errors of reading, and InvalidValueError for labels and weights that are none.
    """
    layout, config = dataset.layout, dataset.config
    for number, (file, left) in enumerate(zip(dataset.manifest.files, wanted, strict=True)):
        sample = config.samples[file.sample]
        counted = dataset.transform.objects_counted
        used_names = [*dataset.transform.columns, *counted]
        deciding = deciding_branches(layout, file.sample)
        names = [*used_names, *target_branches(sample), *deciding]
        counts = dataset.specs.counts(number, "train").tolist()
        with Source(names) as source:
            for unit, there in enumerate(counts):
                if not there or not left:
                    continue
                read = UnitEvents(read_unit(source, file, unit), config, layout)
                events = read.of("train").taken(slice(left))
                rows = events.rows
                left -= len(rows)
                group = events.labels if _by_class(dataset) else np.full(len(rows), file.sample)
                group = np.minimum(group, MAX_GROUPS - 1)
                weight = events.weights
                used = {name: read.unit.columns[name] for name in used_names}
                for first in range(0, len(rows), BLOCK):
                    part = slice(first, first + BLOCK)
                    yield Block(take_all(used, rows[part]), group[part], weight[part])


def _by_class(dataset: Dataset) -> bool:
    return dataset.layout.task in ("binary", "multiclass")


def _class_name(dataset: Dataset, number: int) -> str:
    names = [sample.name for sample in dataset.config.samples if sample.label == number]
    return f"{number} ({', '.join(names)})" if names else f"class {number}"


def _few(names: list[str]) -> list[str]:
    if len(names) <= MAX_GROUPS:
        return names
    return [*names[: MAX_GROUPS - 1], f"the other {len(names) - MAX_GROUPS + 1}"]
