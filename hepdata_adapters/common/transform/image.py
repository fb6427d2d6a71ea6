"""The reference transform: the objects of an event as an N-dimensional histogram.

This is the paper's matrix representation (sect. 3.2, fig. 5). Objects that share a cell add up,
so it has no inverse: neither the places inside the cells nor the single objects can be had back.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hepdata_adapters.common.config.feature_config import Finite, ImageAxis
from hepdata_adapters.common.core.columns import (
    Array,
    Column,
    Columns,
    Jagged,
    offsets_from_lengths,
)
from hepdata_adapters.common.core.errors import ConfigError, FaultKind
from hepdata_adapters.common.core.faults import Fault, refuse
from hepdata_adapters.common.files.objects import (
    count_objects,
    faults_of_objects,
    jagged,
    object_offsets,
    rows_of_objects,
)
from hepdata_adapters.common.transform.output import Line, Output, line_counts
from hepdata_adapters.common.transform.scaling import LARGEST, NOT_FINITE

MOST_CELLS = 2**31
"""Cells of one image, of all channels; so that the cells of 2^32 events have int64 numbers."""


class ImageBins(BaseModel):
    """One axis: a branch in bins between ``edges``, of which the last one belongs to its bin.

    periodic: values are taken modulo the range first, so that none lies outside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    branch: str
    edges: tuple[Finite, ...] = Field(min_length=2)
    periodic: bool = False

    @field_validator("edges")
    @classmethod
    def _upwards(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError("edges go upwards")
        return edges

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1

    def wrapped(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of a periodic axis inside its range.

        Those inside stay as they are, and the remainder is IEEE's exact one, so that every
        backend finds the same bin.
        """
        first, last = self.edges[0], self.edges[-1]
        with np.errstate(invalid="ignore"):  # of infinities, which become NaN
            rest = np.fmod(values - first, last - first)
        rest = np.where(rest < 0, rest + (last - first), rest)
        return np.where((values >= first) & (values < last), values, first + rest)

    def find(self, values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The bin of each value, and whether it has one (NaN has none)."""
        places = np.searchsorted(np.array(self.edges), values, side="right") - 1
        inside = (values >= self.edges[0]) & (values <= self.edges[-1])
        return places.clip(0, self.bins - 1), inside


def image_edges(axis: ImageAxis, minimum: float | None, maximum: float | None) -> tuple[float, ...]:
    """The edges of an axis; minimum and maximum of its branch where the config gives no range.

    Raises ConfigError for a periodic axis without a range, and where the range is empty or too
    small for its bins.

    >>> image_edges(ImageAxis(branch="Jet_eta", bins=4), -2.0, 2.0)
    (-2.0, -1.0, 0.0, 1.0, 2.0)
    """
    if axis.edges is not None:
        return axis.edges
    bins = axis.bins or 0
    low, high = axis.range or (minimum, maximum)
    if axis.periodic and axis.range is None:
        raise ConfigError(f"image axis {axis.branch}: a periodic axis needs its range")
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(
            f"image axis {axis.branch}: the training split has no finite value; give a range"
        )
    edges = np.linspace(low, high, bins + 1)
    if not (np.diff(edges) > 0).all():
        raise ConfigError(
            f"image axis {axis.branch}: {low!r} to {high!r} has no room for {bins} bins; "
            "give another range"
        )
    return tuple(edges.tolist())


class ImageTransform(BaseModel):
    """Jagged columns of events to images ``(n, c, b1, b2, ...)`` float32.

    channels: the branch that weights the objects, ``None`` for 1 each. Weights add up in float64
    and are rounded once, at the end.
    center: ``leading`` moves the first object of each event to 0 on all axes.
    outside: objects beyond the edges, or with a coordinate NaN, are counted and left out, or an
    error. A weight NaN or infinity, and a sum too large for float32, is always an error.
    channels_last: ``(n, b1, b2, ..., c)``.
    sparse: instead of "" the cells that are not 0, as two `Jagged` in the order of the dense
    image: ``_cells`` (content ``(m, ndim + 1)`` int64, indices into the image of its event:
    the channel is where it is in the dense image) and ``_values`` (content ``(m,)`` float32).

    >>> transform = ImageTransform(
    ...     axes=(ImageBins(branch="eta", edges=(-1, 0, 1)),), channels=("pt", None))
    >>> out = transform({"eta": Jagged.from_lists([[0.5, 0.7, 3.0], []]),
    ...                  "pt": Jagged.from_lists([[20.0, 30.0, 40.0], []])})
    >>> out.arrays[""].tolist()
    [[[0.0, 50.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]
    >>> transform.counted, out.counts.tolist()  # doctest: +NORMALIZE_WHITESPACE
    ((('objects outside the image', 'eta'), ('cells with several objects', 'eta')),
     [[1, 1], [0, 0]])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image"] = "image"
    axes: tuple[ImageBins, ...] = Field(min_length=1)
    channels: tuple[str | None, ...] = Field(default=(None,), min_length=1)
    center: Literal["none", "leading"] = "none"
    outside: Literal["count", "error"] = "count"
    channels_last: bool = False
    sparse: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> ImageTransform:
        if self.cells * len(self.channels) > MOST_CELLS:
            raise ValueError(f"an image of {self.shape} has more than {MOST_CELLS} cells")
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """The prepared columns that it reads, each once."""
        weights = [channel for channel in self.channels if channel is not None]
        return tuple(dict.fromkeys([*(axis.branch for axis in self.axes), *weights]))

    @property
    def weights(self) -> tuple[str, ...]:
        """The branches that weight objects, each once."""
        return tuple(dict.fromkeys(channel for channel in self.channels if channel is not None))

    @property
    def bins(self) -> tuple[int, ...]:
        """Bins of each axis."""
        return tuple(axis.bins for axis in self.axes)

    @property
    def cells(self) -> int:
        """Cells of one channel."""
        return math.prod(self.bins)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image of one event."""
        channels = (len(self.channels),)
        return self.bins + channels if self.channels_last else channels + self.bins

    @property
    def counted(self) -> tuple[Line, ...]:
        """The ledger line of each column of counts."""
        branch = self.axes[0].branch
        several: Line = ("cells with several objects", branch)
        if self.outside == "error":
            return (several,)
        return (("objects outside the image", branch), several)

    def faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """All values that the policies forbid, at most one an event and reason."""
        return faults_of_objects(columns, self.branches, self._faults)

    def __call__(self, columns: Mapping[str, Column]) -> Output:
        """Transform n events.

        Raises InvalidValueError for the first value that a policy forbids, and where the
        branches differ in their number of objects; BranchError for a flat branch.
        """
        object_offsets(columns, self.branches)
        objects = self._objects(columns)
        sums = self._sums(columns, objects)
        for fault in self._refused(columns, objects, sums):
            refuse(fault)
        several = objects.cells[objects.number > 1] // self.cells
        branch = self.axes[0].branch
        counts: dict[Line, NDArray[Any]] = {
            ("objects outside the image", branch): count_objects(~objects.inside, objects.offsets),
            ("cells with several objects", branch): np.bincount(several, minlength=objects.events),
        }
        return Output(
            self._arrays(objects, sums.astype(np.float32)),
            line_counts(self.counted, counts, objects.events),
        )

    def _objects(self, columns: Mapping[str, Column]) -> _Objects:
        offsets = jagged(columns, self.axes[0].branch).offsets
        rows = rows_of_objects(offsets)
        first = offsets[rows]
        inside = np.ones(len(rows), np.bool_)
        cell = np.zeros(len(rows), np.int64)
        for axis in self.axes:
            values = jagged(columns, axis.branch).content.astype(np.float64)
            if self.center == "leading":
                with np.errstate(invalid="ignore"):  # infinities: the result has no bin
                    values = values - values[first]
            found, has_bin = axis.find(axis.wrapped(values) if axis.periodic else values)
            cell = cell * axis.bins + found
            inside &= has_bin
        cells, place, number = np.unique(
            (rows * self.cells + cell)[inside], return_inverse=True, return_counts=True
        )
        return _Objects(offsets, inside, cells, place, number)

    def _sums(self, columns: Mapping[str, Column], objects: _Objects) -> NDArray[np.float64]:
        """Of the weights in each cell, ``(c, u)``."""
        sums = np.empty((len(self.channels), len(objects.cells)))
        for total, channel in zip(sums, self.channels, strict=True):
            if channel is None:
                total[:] = objects.number
                continue
            weights = jagged(columns, channel).content[objects.inside]
            total[:] = np.bincount(objects.place, weights, len(objects.cells))
        return sums

    def _faults(self, columns: Columns) -> list[Fault]:
        objects = self._objects(columns)
        return self._refused(columns, objects, self._sums(columns, objects))

    def _refused(
        self, columns: Mapping[str, Column], objects: _Objects, sums: NDArray[np.float64]
    ) -> list[Fault]:
        rows = rows_of_objects(objects.offsets)
        found: list[tuple[Array, str, str, FaultKind]] = []
        if self.outside == "error":
            outside = rows[~objects.inside]
            found.append((outside, self.axes[0].branch, "lies outside the image", "outside"))
        totals = dict(zip(self.channels, sums, strict=True))
        for channel in self.weights:
            infinite = rows[~np.isfinite(jagged(columns, channel).content)]
            found.append((infinite, channel, NOT_FINITE, "missing"))
            large = objects.cells[~(np.abs(totals[channel]) <= LARGEST)] // self.cells
            large = np.setdiff1d(large, infinite)
            found.append((large, channel, "adds up to more than float32 holds", "too large"))
        return [
            Fault(int(row), branch, f"{branch} {reason}", kind)
            for refused, branch, reason, kind in found
            for row in np.unique(refused)
        ]

    def _arrays(self, objects: _Objects, values: NDArray[np.float32]) -> dict[str, Array | Jagged]:
        """values: ``(c, u)``, of each channel and cell."""
        size = self.cells * len(self.channels)
        row, cell = np.divmod(objects.cells, self.cells)
        channel = np.arange(len(self.channels))[:, np.newaxis]
        inner = (
            cell * len(self.channels) + channel
            if self.channels_last
            else channel * self.cells + cell
        )
        places = row * size + inner
        if not self.sparse:
            image = np.zeros((objects.events, *self.shape), np.float32)
            image.reshape(-1)[places] = values
            return {"": image}
        places, values = places[values != 0], values[values != 0]
        order = np.argsort(places)
        row, inner = np.divmod(places[order], size)
        offsets = offsets_from_lengths(np.bincount(row, minlength=objects.events))
        return {
            "_cells": Jagged(np.stack(np.unravel_index(inner, self.shape), 1), offsets),
            "_values": Jagged(values[order], offsets),
        }


@dataclass(frozen=True, eq=False)
class _Objects:
    """Where the objects of n events are.

    offsets: ``(n + 1,)``. inside: whether each of the objects has a cell. cells: ``(u,)`` the
    cells with objects, numbered over all events, upwards. place: of each object inside, the
    index into ``cells``. number: ``(u,)`` objects in each.
    """

    offsets: NDArray[np.int64]
    inside: NDArray[np.bool_]
    cells: NDArray[np.int64]
    place: NDArray[np.intp]
    number: NDArray[np.intp]

    @property
    def events(self) -> int:
        return len(self.offsets) - 1
