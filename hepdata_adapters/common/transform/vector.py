"""The reference transform: flat and jagged columns to one padded, scaled vector and its mask.

This is the paper's vector representation (sect. 3.2, figs. 3 and 4). The same object is used
to train, to evaluate and inside a served archive; it needs numpy and pydantic only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from hepdata_adapters.common.core.columns import (
    Array,
    Column,
    Columns,
    Jagged,
    offsets_from_lengths,
    ranges,
)
from hepdata_adapters.common.core.errors import ConfigError, FaultKind
from hepdata_adapters.common.core.faults import Fault, refuse
from hepdata_adapters.common.core.ledger import LedgerKind
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

__all__ = ["FeatureTransform", "VectorTransform", "Vectors"]

BEYOND: Final[LedgerKind] = "values beyond the pad length"
FILLED: Final[LedgerKind] = "values filled (NaN or infinity)"
CLIPPED: Final[LedgerKind] = "values clipped"
TOO_LONG: Final[FaultKind] = "too long"


@dataclass(frozen=True, eq=False)
class Vectors:
    """The output for n events, d columns, j jagged branches and C ledger lines.

    x: ``(n, d)`` float32, padded entries hold the pad value of their feature.
    mask: ``(n, d)`` bool, true = real value; an indicator is real wherever there is a value.
    lengths: ``(n, j)`` int32, real values kept of each jagged branch.
    counts: ``(n, C)`` int32, what each event adds to the lines of `VectorTransform.counted`.
    """

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    lengths: NDArray[np.int32]
    counts: NDArray[np.int32]


class VectorTransform(BaseModel):
    """Columns of events to `Vectors`, features in the order of the config.

    >>> transform = VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),
    ...     FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=2),
    ... ))
    >>> out = transform({
    ...     "MET": np.array([10.0, 4.0]), "Jet_pt": Jagged.from_lists([[3.0], [1.0, 2.0, 9.0]])})
    >>> out.x.tolist()
    [[5.0, 3.0, 0.0], [2.0, 1.0, 2.0]]
    >>> out.mask.tolist()
    [[True, True, False], [True, True, True]]
    >>> out.lengths.tolist(), out.counts.tolist(), transform.counted
    ([[1], [2]], [[0], [1]], (('values beyond the pad length', 'Jet_pt'),))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["hepdata-vector-transform"] = "hepdata-vector-transform"
    version: Literal[2] = 2
    features: tuple[FeatureTransform, ...] = Field(min_length=1)

    @field_validator("features")
    @classmethod
    def _unique(cls, features: tuple[FeatureTransform, ...]) -> tuple[FeatureTransform, ...]:
        names = [feature.branch for feature in features]
        if len(set(names)) != len(names):
            raise ValueError("a branch stands twice among the features")
        columns = Counter(name for feature in features for name in feature.column_names)
        name, count = columns.most_common(1)[0]
        if count > 1:
            raise ValueError(
                f"two columns would be called {name!r}: rename the branch or leave "
                "out the indicator"
            )
        return features

    @property
    def feature_names(self) -> list[str]:
        """Names of the d columns of ``x``."""
        return [name for feature in self.features for name in feature.column_names]

    @property
    def num_features(self) -> int:
        """d, the number of columns of ``x``."""
        return sum(feature.columns for feature in self.features)

    @property
    def jagged(self) -> tuple[FeatureTransform, ...]:
        """The jagged branches, in the order of the columns of ``lengths``."""
        return tuple(feature for feature in self.features if feature.kind == "jagged")

    @property
    def counted(self) -> tuple[tuple[LedgerKind, str], ...]:
        """Kind and branch of the C ledger lines that events can add to, see `Vectors.counts`."""
        return tuple((kind, f.branch) for f in self.features for kind in lines_of(f))

    def faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """All values that the policies of their features forbid, at most one a row and branch."""
        found: list[Fault] = []
        for feature in self.features:
            name, width, column = feature.branch, feature.width, columns[feature.branch]
            found += [
                Fault(int(row), name, f"{name} {reason}", kind)
                for kind, reason, flags in feature.refusals(_content(column))
                for row in np.flatnonzero(_count_rows(column, flags))
            ]
            if isinstance(column, Jagged) and feature.overflow == "error":
                found += [
                    Fault(row, name, f"{name} has {length} values, at most {width} fit", TOO_LONG)
                    for row, length in enumerate(column.lengths.tolist())
                    if length > width
                ]
        return found

    def __call__(self, columns: Mapping[str, Column]) -> Vectors:
        """Transform n events.

        Raises InvalidValueError for the first value its policy forbids (see `faults`).
        """
        n, d = len(columns[self.features[0].branch]), self.num_features
        x = np.full((n, d), self.pads, np.float32)
        mask = np.zeros((n, d), np.bool_)
        lengths = np.zeros((n, len(self.jagged)), np.int32)
        counts = np.zeros((n, len(self.counted)), np.int32)
        first, list_number, line = 0, 0, 0
        padding = _Padding(d)
        for feature in self.features:
            column, width = columns[feature.branch], feature.width
            encoded = feature.encode(_content(column))
            if encoded.refused.any():
                self._refuse(columns, feature)
            tally = {FILLED: encoded.filled, CLIPPED: encoded.clipped}
            amounts = {
                kind: _count_rows(column, flags) for kind, flags in tally.items() if flags.any()
            }
            layers = [(encoded.values, ~encoded.filled)]
            if feature.indicator:
                layers.append((encoded.filled.astype(np.float32), np.ones_like(encoded.filled)))
            if isinstance(column, Jagged):
                if feature.overflow == "error" and (column.lengths > width).any():
                    self._refuse(columns, feature)
                places, sources, kept = padding.indices(column.offsets, width)
                lengths[:, list_number] = kept
                amounts[BEYOND] = column.lengths - kept
                list_number += 1
                for number, (values, real) in enumerate(layers):
                    # one flat index is three times as fast as a pair of them
                    target = places + (first + number * width)
                    x.reshape(-1)[target] = values[sources]
                    mask.reshape(-1)[target] = real[sources]
            else:
                for number, (values, real) in enumerate(layers):
                    start = first + number * width
                    x[:, start : start + width] = values.reshape(n, width)
                    mask[:, start : start + width] = real.reshape(n, width)
            for kind in lines_of(feature):
                counts[:, line] = amounts.get(kind, 0)
                line += 1
            first += feature.columns
        return Vectors(x, mask, lengths, counts)

    def inverse(
        self, x: Array, mask: Array, lengths: NDArray[np.integer[Any]] | None = None
    ) -> Columns:
        """Columns in raw units, float64, from the vectors of n events.

        x: ``(n, d)``, as `__call__` gives it or as a model reconstructs it. mask: ``(n, d)``
        bool; values that are not real come back as NaN. lengths: ``(n, j)``, values of each
        jagged branch; without them a list ends with its last real value, or with the last one
        that its indicator knows. What was cut or clipped stays so. How exact it is says
        `FeatureTransform.decode`.

        Raises ConfigError for arrays of another shape, and naming the features whose scaling
        has no inverse.

        >>> transform = VectorTransform(features=(
        ...     FeatureTransform(branch="pt", kind="jagged", dtype="int32", width=3, factor=0.5),))
        >>> x, mask = np.array([[1.5, 2.0, 0.0]]), np.array([[True, True, False]])
        >>> transform.inverse(x, mask)["pt"].to_lists()
        [[3.0, 4.0]]
        """
        lost = [feature.branch for feature in self.features if not feature.invertible]
        if lost:
            raise ConfigError(f"the scaling of {', '.join(lost)} has no inverse: leave them out")
        n = len(x)
        shapes = {"x": (x, self.num_features), "mask": (mask, self.num_features)}
        if lengths is not None:
            shapes["lengths"] = (lengths, len(self.jagged))
        for name, (array, width) in shapes.items():
            if array.shape != (n, width):
                raise ConfigError(f"{name} takes shape {(n, width)}, not {array.shape}")
        columns: Columns = {}
        first, list_number = 0, 0
        for feature in self.features:
            values = slice(first, first + feature.width)
            first += feature.columns
            raw = np.where(mask[:, values], feature.decode(x[:, values]), np.nan)
            if feature.kind != "jagged":
                columns[feature.branch] = raw[:, 0] if feature.kind == "flat" else raw
                continue
            known = mask[:, first - feature.width : first]
            kept = _last(known) if lengths is None else lengths[:, list_number]
            inside = np.arange(feature.width) < np.reshape(kept, (n, 1))
            columns[feature.branch] = Jagged(raw[inside], offsets_from_lengths(inside.sum(1)))
            list_number += 1
        return columns

    @property
    def pads(self) -> NDArray[np.float32]:
        """What stands in padded entries of each column, ``(d,)`` float32."""
        rows = [[f.pad] * f.width + [0.0] * (f.columns - f.width) for f in self.features]
        return np.array([pad for row in rows for pad in row], np.float32)

    def _refuse(self, columns: Mapping[str, Column], feature: FeatureTransform) -> None:
        """Raise for the first fault of this branch, if its policy makes it one."""
        for fault in self.model_copy(update={"features": (feature,)}).faults(columns):
            refuse(fault)


def _content(column: Column) -> Array:
    return column.content if isinstance(column, Jagged) else column


def lines_of(feature: FeatureTransform) -> list[LedgerKind]:
    """The kinds of ledger lines that this feature can add to."""
    found: list[LedgerKind] = []
    if feature.kind == "jagged" and feature.overflow == "truncate":
        found.append(BEYOND)
    if feature.missing is not None and feature.may_miss:
        found.append(FILLED)
    if feature.clip is not None:
        found.append(CLIPPED)
    return found


def _last(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One more than the place of the last true of each row, 0 without any."""
    found: NDArray[np.int64] = (mask * np.arange(1, mask.shape[1] + 1)).max(axis=1)
    return found


def _count_rows(column: Column, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flags set in each row (event) of the column."""
    if isinstance(column, Jagged):
        before = offsets_from_lengths(flags)
        counts: NDArray[np.int64] = before[column.offsets[1:]] - before[column.offsets[:-1]]
        return counts
    total: NDArray[np.int64] = flags.sum(axis=tuple(range(1, flags.ndim)), dtype=np.int64)
    return total


class _Padding:
    """Scatter indices of the last jagged branch, reused by the others of its group."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._offsets: NDArray[np.int64] = np.zeros(0, np.int64)
        self._width = 0
        self._found: tuple[Array, Array, Array] = (np.zeros(0), np.zeros(0), np.zeros(0))

    def indices(self, offsets: NDArray[np.int64], width: int) -> tuple[Array, Array, Array]:
        """Of the values kept: places in ``x`` (flattened) of a branch that starts at column 0,
        places in the content; and how many are kept in each row.
        """
        if self._width != width or not np.array_equal(self._offsets, offsets):
            kept = np.minimum(np.diff(offsets), width)
            sources = ranges(offsets[:-1], kept)
            shift = np.arange(len(kept)) * self._columns - offsets[:-1]
            self._found = (sources + np.repeat(shift, kept), sources, kept)
            self._offsets, self._width = offsets, width
        return self._found
