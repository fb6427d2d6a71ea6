"""The reference transform: flat and jagged columns to one padded, scaled vector and its mask.

This is the paper's vector representation (sect. 3.2, figs. 3 and 4). The same object is used
to train, to evaluate and inside a served archive; it needs numpy and pydantic only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hepdata_adapters.common.columns import Array, Column, Jagged, offsets_from_lengths, ranges
from hepdata_adapters.common.errors import InvalidValueError

PAD_VALUE = 0.0
LARGEST = float(np.finfo(np.float32).max)


class FeatureTransform(BaseModel):
    """What happens to one branch: ``(value - center) * factor``, padded to ``width`` columns.

    missing: the raw value that replaces NaN and ±infinity (the entry's mask is then false);
    ``None`` makes them an error.
    overflow: what an event with more than ``width`` values gets (jagged branches only).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    branch: str
    kind: Literal["flat", "array", "jagged"]
    dtype: str
    width: int = Field(ge=1)
    center: float = Field(default=0.0, allow_inf_nan=False)
    factor: float = Field(default=1.0, allow_inf_nan=False)
    missing: float | None = Field(default=None, allow_inf_nan=False)
    overflow: Literal["truncate", "error"] = "truncate"

    @field_validator("dtype")
    @classmethod
    def _numeric(cls, dtype: str) -> str:
        try:
            if np.dtype(dtype).kind in "biuf":
                return dtype
        except TypeError:
            pass
        raise ValueError(f"{dtype!r} is not a numeric dtype")

    @model_validator(mode="after")
    def _fill_fits(self) -> FeatureTransform:
        if self.missing is not None and abs((self.missing - self.center) * self.factor) > LARGEST:
            raise ValueError(f"{self.branch}: the fill value {self.missing:g} is too large")
        return self

    @property
    def may_overflow(self) -> bool:
        """Whether a finite value of this dtype can become infinite in float32 once scaled."""
        dtype = np.dtype(self.dtype)
        largest = 1.0 if dtype.kind == "b" else float(_limits(dtype).max)
        return (largest + abs(self.center)) * abs(self.factor) > LARGEST

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of ``x`` that this branch fills."""
        if self.kind == "flat":
            return [self.branch]
        return [f"{self.branch}[{i}]" for i in range(self.width)]


class Fault(NamedTuple):
    """A value that the transform must not accept."""

    row: int
    branch: str
    reason: str


@dataclass(frozen=True, eq=False)
class Vectors:
    """The output for n events, d columns, j jagged and f branches.

    x: ``(n, d)`` float32, padded entries 0. mask: ``(n, d)`` bool, true = real value.
    lengths: ``(n, j)`` int32, real values kept of each jagged branch.
    dropped: ``(n, j)`` int32, values beyond the pad length. filled: ``(n, f)`` int32, replaced
    NaN and infinities per branch.
    """

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    lengths: NDArray[np.int32]
    dropped: NDArray[np.int32]
    filled: NDArray[np.int32]


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
    >>> out.lengths.tolist(), out.dropped.tolist()
    ([[1], [2]], [[0], [1]])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["hepdata-vector-transform"] = "hepdata-vector-transform"
    version: Literal[1] = 1
    features: tuple[FeatureTransform, ...] = Field(min_length=1)

    @field_validator("features")
    @classmethod
    def _unique(cls, features: tuple[FeatureTransform, ...]) -> tuple[FeatureTransform, ...]:
        names = [feature.branch for feature in features]
        if len(set(names)) != len(names):
            raise ValueError("a branch stands twice among the features")
        return features

    @property
    def feature_names(self) -> list[str]:
        """Names of the d columns of ``x``."""
        return [name for feature in self.features for name in feature.column_names]

    @property
    def num_features(self) -> int:
        """d, the number of columns of ``x``."""
        return sum(feature.width for feature in self.features)

    @property
    def jagged(self) -> tuple[FeatureTransform, ...]:
        """The jagged branches, in the order of the columns of ``lengths``."""
        return tuple(feature for feature in self.features if feature.kind == "jagged")

    def faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """All values that the policies of their features forbid, at most one a row and branch."""
        found: list[Fault] = []
        for feature in self.features:
            column = columns[feature.branch]
            if feature.missing is None:
                found += [
                    Fault(int(row), feature.branch, f"{feature.branch} holds NaN or infinity")
                    for row in _rows_with(column, ~_finite(column))
                ]
            found += [
                Fault(int(row), feature.branch, f"{feature.branch} is too large for float32")
                for row in _rows_with(column, _too_large(column, feature))
            ]
            if isinstance(column, Jagged) and feature.overflow == "error":
                lengths = column.lengths
                found += [
                    Fault(
                        int(row),
                        feature.branch,
                        f"{feature.branch} has {lengths[row]} values, at most {feature.width} fit",
                    )
                    for row in np.flatnonzero(lengths > feature.width)
                ]
        return found

    def __call__(self, columns: Mapping[str, Column]) -> Vectors:
        """Transform n events.

        Raises InvalidValueError for the first value its policy forbids (see `faults`).
        """
        n = len(columns[self.features[0].branch])
        x = np.full((n, self.num_features), PAD_VALUE, np.float32)
        mask = np.zeros((n, self.num_features), np.bool_)
        filled = np.zeros((n, len(self.features)), np.int32)
        lengths = np.zeros((n, len(self.jagged)), np.int32)
        dropped = np.zeros_like(lengths)
        first, list_number = 0, 0
        padding = _Padding(self.num_features)
        for number, feature in enumerate(self.features):
            column = columns[feature.branch]
            real = _finite(column)
            if not real.all():
                self._refuse(columns, feature)
                filled[:, number] = _count_rows(column, ~real)
            values = _scaled(column, feature, real)
            if feature.may_overflow and np.isinf(values).any():
                self._refuse(columns, feature)
            target = slice(first, first + feature.width)
            if isinstance(column, Jagged):
                if feature.overflow == "error" and (column.lengths > feature.width).any():
                    self._refuse(columns, feature)
                places, sources, kept = padding.indices(column.offsets, feature.width)
                # one flat index is three times as fast as a pair of them
                x.reshape(-1)[places + first] = values[sources]
                mask.reshape(-1)[places + first] = real[sources]
                lengths[:, list_number] = kept
                dropped[:, list_number] = column.lengths - kept
                list_number += 1
            else:
                x[:, target] = values.reshape(n, feature.width)
                mask[:, target] = real.reshape(n, feature.width)
            first += feature.width
        return Vectors(x, mask, lengths, dropped, filled)

    def _refuse(self, columns: Mapping[str, Column], feature: FeatureTransform) -> None:
        """Raise for the first fault of this branch, if its policy makes it one."""
        for fault in self.model_copy(update={"features": (feature,)}).faults(columns):
            raise InvalidValueError(
                f"{fault.reason} (event {fault.row} of those given); "
                f"see the 'missing' and 'overflow' policies",
                branch=fault.branch,
            )


def _content(column: Column) -> Array:
    return column.content if isinstance(column, Jagged) else column


def _finite(column: Column) -> NDArray[np.bool_]:
    content = _content(column)
    if content.dtype.kind != "f":
        return np.ones(content.shape, np.bool_)
    return np.isfinite(content)


def _rows_with(column: Column, flags: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Rows (events) of the column in which any flag is set."""
    return np.flatnonzero(_count_rows(column, flags))


def _count_rows(column: Column, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flags set in each row (event) of the column."""
    if isinstance(column, Jagged):
        before = offsets_from_lengths(flags)
        counts: NDArray[np.int64] = before[column.offsets[1:]] - before[column.offsets[:-1]]
        return counts
    total: NDArray[np.int64] = flags.sum(axis=tuple(range(1, flags.ndim)), dtype=np.int64)
    return total


def _scaled(
    column: Column, feature: FeatureTransform, real: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Scale in float64, so that large values lose digits only in the result."""
    values = _content(column).astype(np.float64)
    if feature.missing is not None:
        values[~real] = feature.missing
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are looked for in the result
        return ((values - feature.center) * feature.factor).astype(np.float32)


def _too_large(column: Column, feature: FeatureTransform) -> NDArray[np.bool_]:
    """Finite values that become infinite as float32 once scaled."""
    content = _content(column)
    if not feature.may_overflow:
        return np.zeros(content.shape, np.bool_)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.abs((content.astype(np.float64) - feature.center) * feature.factor)
    return _finite(column) & (scaled > LARGEST)


def _limits(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)


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
