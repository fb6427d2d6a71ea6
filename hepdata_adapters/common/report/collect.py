"""One pass over the training events: everything that the page shows of them.

What is kept does not grow with the events: histograms with bins of the specs, sums and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Columns, Jagged, take_all
from hepdata_adapters.common.core.errors import InvalidValueError
from hepdata_adapters.common.core.ledger import Ledger
from hepdata_adapters.common.core.tally import ledger_of
from hepdata_adapters.common.report.binning import length_binning, raw_binning, scaled_binning
from hepdata_adapters.common.report.correlation import Correlation
from hepdata_adapters.common.report.distribution import Distribution
from hepdata_adapters.common.report.reading import Block, group_names
from hepdata_adapters.common.specs.compute import Progress
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.ragged import RaggedTransform
from hepdata_adapters.common.transform.scaling import ValueScaling
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

VECTOR = "x"
MAX_CORRELATED = 60
"""Columns that one picture of a matrix can hold."""
MAX_CELLS = 2**22
"""Cells of the mean images of one input, of all groups and channels together."""
Place = tuple[str, str]
"""The input (``x`` for the vector) and the branch of a scaled feature."""


@dataclass(frozen=True, eq=False)
class Collected:
    """What was learnt. All arrays over groups are in the order of ``groups``.

    raw, lengths: by branch. scaled: of the real values that the model sees. together: jagged
    branches with the same lengths in every event. images: sums over events, ``(groups, channels,
    bins…)``, by input. columns: those of ``x`` that are correlated. refused: events that the
    transform refuses, by branch, with the first reason.
    """

    groups: list[str]
    events: NDArray[np.int64]
    weights: NDArray[np.float64]
    negative: NDArray[np.int64]
    raw: dict[str, Distribution]
    lengths: dict[str, Distribution]
    scaled: dict[Place, Distribution]
    images: dict[str, NDArray[np.float64]]
    columns: list[int]
    correlation: Correlation
    together: list[list[str]]
    accepted: NDArray[np.int64]
    refused: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)


def features_of(transform: Transform) -> dict[Place, ValueScaling]:
    """Every scaled feature of the vector, the sets and the ragged inputs."""
    found: dict[Place, ValueScaling] = {
        (VECTOR, feature.branch): feature for feature in transform.features
    }
    for name, made in transform.inputs.items():
        if not isinstance(made, ImageTransform):
            found |= {(name, feature.branch): feature for feature in made.features}
    return found


def correlated_columns(
    features: Iterable[FeatureTransform], most: int = MAX_CORRELATED
) -> list[int]:
    """The columns of ``x`` to correlate: all, or the first ones of every feature.

    >>> jets = FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=3)
    >>> met = FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1)
    >>> correlated_columns([jets, met], most=3)
    [0, 1, 3]
    """
    ranked: list[tuple[int, int]] = []
    first = 0
    for feature in features:
        ranked += [(i, first + i) for i in range(feature.columns)]
        first += feature.columns
    return sorted(column for _, column in sorted(ranked)[:most])


def collect(
    dataset: Dataset, blocks: Iterable[Block], total: int, progress: Progress | None = None
) -> Collected:
    """What the blocks of ``total`` events hold, and what the transform makes of them."""
    found = _empty(dataset)
    weighted = dataset.config.statistics == "weights"
    transform = _sparse(dataset.transform)
    done = 0
    for block in blocks:
        weight = np.abs(block.weight) if weighted else np.ones(len(block.weight))
        _count_events(found, block)
        _fill_raw(found, block, weight)
        _fill_scaled(found, transform, block, weight)
        done += len(weight)
        if progress:
            progress(done, total)
    return found


def _empty(dataset: Dataset) -> Collected:
    specs, transform = dataset.specs.branches, dataset.transform
    groups = group_names(dataset)
    count = len(groups)
    binnings = {name: raw_binning(specs[name]) for name in transform.columns}
    lengths = {
        name: Distribution(length_binning(known.max), count)
        for name in transform.columns
        if (known := specs[name].lengths) is not None
    }
    scaled = {
        place: scaled_binning(feature, binnings[feature.branch], specs[feature.branch])
        for place, feature in features_of(transform).items()
    }
    columns = correlated_columns(transform.features)
    return Collected(
        groups=groups,
        events=np.zeros(count, np.int64),
        weights=np.zeros(count),
        negative=np.zeros(count, np.int64),
        raw={name: Distribution(binning, count) for name, binning in binnings.items()},
        lengths=lengths,
        scaled={place: Distribution(binning, count) for place, binning in scaled.items()},
        images={
            name: np.zeros((count, len(made.channels), *made.bins))
            for name, made in transform.inputs.items()
            if isinstance(made, ImageTransform)
            and count * len(made.channels) * made.cells <= MAX_CELLS
        },
        columns=columns,
        correlation=Correlation(len(columns)),
        together=[list(lengths)] if lengths else [],
        accepted=np.zeros(count, np.int64),
    )


def _sparse(transform: Transform) -> Transform:
    """The transform with images as cells: its memory then follows the objects, not the cells."""
    inputs = {
        name: made.model_copy(update={"sparse": True, "channels_last": False})
        if isinstance(made, ImageTransform)
        else made
        for name, made in transform.inputs.items()
    }
    return transform.model_copy(update={"inputs": inputs})


def _count_events(found: Collected, block: Block) -> None:
    count = len(found.groups)
    found.events[:] += np.bincount(block.group, minlength=count)
    found.weights[:] += np.bincount(block.group, block.weight, minlength=count)
    found.negative[:] += np.bincount(block.group[block.weight < 0], minlength=count)


def _fill_raw(found: Collected, block: Block, weight: NDArray[np.float64]) -> None:
    for name, distribution in found.raw.items():
        column = block.columns[name]
        if isinstance(column, Jagged):
            found.lengths[name].fill(column.lengths, block.group, weight)
        values, repeats = _values(column)
        finite = np.isfinite(values)
        group, weights = np.repeat(block.group, repeats), np.repeat(weight, repeats)
        distribution.fill(values[finite], group[finite], weights[finite])
    found.together[:] = [part for names in found.together for part in _alike(names, block.columns)]


def _alike(names: list[str], columns: Mapping[str, Column]) -> list[list[str]]:
    """The names in groups of the same lengths."""
    parts: dict[bytes, list[str]] = {}
    for name in names:
        column = columns[name]
        key = column.offsets.tobytes() if isinstance(column, Jagged) else b""
        parts.setdefault(key, []).append(name)
    return list(parts.values())


def _values(column: Column) -> tuple[NDArray[np.generic], NDArray[np.int64] | int]:
    """All values of a column after each other, and how many each event has."""
    if isinstance(column, Jagged):
        return column.content, column.lengths
    return column.reshape(-1), int(np.prod(column.shape[1:]))


def _fill_scaled(
    found: Collected, transform: Transform, block: Block, weight: NDArray[np.float64]
) -> None:
    try:
        made = transform(block.columns)
    except InvalidValueError:
        kept = _refuse(found, transform, block.columns, len(weight))
        block = Block(take_all(block.columns, kept), block.group[kept], block.weight[kept])
        weight = weight[kept]
        made = transform(block.columns)
    found.accepted[:] += np.bincount(block.group, minlength=len(found.groups))
    for name, (kind, place) in transform.objects_counted.items():
        found.ledger.add(kind, int(np.asarray(block.columns[name]).sum()), place)
    found.ledger.merge(ledger_of(made.counts, transform.counted))
    if transform.vector:
        _fill_vector(found, transform, made.arrays, block.group, weight)
    for name, one in transform.inputs.items():
        if isinstance(one, ImageTransform):
            _fill_image(found, name, made.arrays, block.group)
        else:
            _fill_objects(found, name, one, made.arrays, block.group, weight)


def _refuse(
    found: Collected, transform: Transform, columns: Columns, events: int
) -> NDArray[np.int64]:
    """Count the events that a policy refuses; returns the rows of all others."""
    kept = np.ones(events, np.bool_)
    faults = transform.faults(columns)
    for row, branch in {(fault.row, fault.branch) for fault in faults}:
        kept[row] = False
        found.refused[branch] += 1
    for fault in faults:
        found.reasons.setdefault(fault.branch, fault.reason)
    return np.flatnonzero(kept)


def _fill_vector(
    found: Collected,
    transform: Transform,
    arrays: Mapping[str, Column],
    group: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> None:
    x, mask = np.asarray(arrays["x"]), np.asarray(arrays["mask"])
    first = 0
    for feature in transform.features:
        values, real = (array[:, first : first + feature.width] for array in (x, mask))
        first += feature.columns
        repeats = real.sum(axis=1)
        found.scaled[VECTOR, feature.branch].fill(
            values[real], np.repeat(group, repeats), np.repeat(weight, repeats)
        )
    columns = found.columns
    found.correlation.add(x[:, columns].astype(np.float64), mask[:, columns], weight)


def _fill_objects(
    found: Collected,
    name: str,
    made: SetTransform | RaggedTransform,
    arrays: Mapping[str, Column],
    group: NDArray[np.int64],
    weight: NDArray[np.float64],
) -> None:
    main = arrays[name]
    if isinstance(main, Jagged):
        values, repeats = main.content, main.lengths
    else:
        mask = np.asarray(arrays[f"{name}_mask"])
        values, repeats = main[mask], mask.sum(axis=1)
    groups, weights = np.repeat(group, repeats), np.repeat(weight, repeats)
    for number, feature in enumerate(made.features):
        found.scaled[name, feature.branch].fill(values[:, number], groups, weights)


def _fill_image(
    found: Collected, name: str, arrays: Mapping[str, Column], group: NDArray[np.int64]
) -> None:
    cells, values = arrays[f"{name}_cells"], arrays[f"{name}_values"]
    if name in found.images and isinstance(cells, Jagged) and isinstance(values, Jagged):
        places = (np.repeat(group, cells.lengths), *cells.content.T)
        np.add.at(found.images[name], places, values.content)
