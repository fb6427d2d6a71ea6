"""The vectors of a chunk, written branch by branch into the order in which they are delivered.

`VectorTransform` says what the result is; here it is made by the kernel, and threads may write
different branches at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged, take
from hepdata_adapters.common.core.threads import shared_out
from hepdata_adapters.common.transform.vector import (
    BEYOND,
    CLIPPED,
    FILLED,
    VectorTransform,
    lines_of,
)
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.common.transform.vector_kernels import scatter, scatter_lengths

Rows = NDArray[np.int64]
COUNTED = (BEYOND, FILLED, CLIPPED)
_NO_STATES = np.empty(0, np.uint8)
_NO_OFFSETS = np.empty(0, np.int64)
_NO_LINE = np.empty(0, np.int32)


@dataclass(frozen=True)
class Target:
    """Where a feature goes.

    column: its first of ``x``. lines: the number of its ledger lines for `COUNTED`, -1 where it
    has none.
    """

    feature: FeatureTransform
    column: int
    lines: tuple[int, int, int]

    @cached_property
    def numbers(self) -> tuple[int, int, float, float, float, float, Any, Any, bool, bool]:
        """What the kernel takes of the feature."""
        feature = self.feature
        return (
            self.column, feature.width, feature.center, feature.factor, *feature.interval,
            np.float32(feature.fill), np.float32(feature.pad), feature.indicator,
            feature.kind == "jagged" and feature.overflow == "error",
        )  # fmt: skip

    @property
    def encoded(self) -> bool:
        """Whether the reference scales the values: the kernel knows no functions and no float16."""
        return self.feature.function is not None or self.feature.dtype == "float16"


@dataclass(frozen=True, eq=False)
class VectorRows:
    """The arrays of n events, see `Vectors` for their meaning; of any values at first.

    x: ``(n, d)``. mask: ``(n, d)``. lengths: ``(n, j)``. counts: ``(C, n)``, a line after the
    other, of zeros at first.
    """

    x: NDArray[np.float32]
    mask: NDArray[np.bool_]
    lengths: NDArray[np.int32]
    counts: NDArray[np.int32]


class VectorWriter:
    """Writes events of columns into `VectorRows`.

    >>> import numpy as np
    >>> writer = VectorWriter(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),)))
    >>> to = writer.empty(2)
    >>> writer.write({"MET": np.float32([10, 20, 4])}, np.array([2, 0]), np.array([0, 1]), to)
    True
    >>> to.x.tolist()
    [[2.0], [5.0]]
    """

    def __init__(self, transform: VectorTransform) -> None:
        self.transform = transform
        self._targets = _targets(transform)
        self._jagged = transform.jagged

    def empty(self, n: int) -> VectorRows:
        """Arrays for n events."""
        d, lines = self.transform.num_features, len(self.transform.counted)
        return VectorRows(
            np.empty((n, d), np.float32),
            np.empty((n, d), np.bool_),
            np.empty((n, len(self._jagged)), np.int32),
            np.zeros((lines, n), np.int32),
        )

    def write(
        self,
        columns: Mapping[str, Column],
        rows: Rows,
        places: Rows,
        to: VectorRows,
        threads: int = 1,
    ) -> bool:
        """Write events ``rows`` of the columns to rows ``places``; False if a value is refused.

        The reference then says which one, and why.
        """
        self._write_lengths(columns, rows, places, to.lengths)

        def write(target: Target) -> bool:
            return _written(target, columns[target.feature.branch], rows, places, to)

        return all(shared_out(write, self._targets, threads))

    def _write_lengths(
        self,
        columns: Mapping[str, Column],
        rows: Rows,
        places: Rows,
        lengths: NDArray[np.int32],
    ) -> None:
        """Those of lists that share offsets at once: each row is touched once a group."""
        groups: dict[tuple[int, int], tuple[NDArray[np.int64], list[int]]] = {}
        for number, feature in enumerate(self._jagged):
            column = columns[feature.branch]
            assert isinstance(column, Jagged)  # noqa: S101 (the kind of the feature says so)
            key = id(column.offsets), feature.width
            groups.setdefault(key, (column.offsets, []))[1].append(number)
        for (_, width), (offsets, numbers) in groups.items():
            scatter_lengths(offsets, rows, places, width, lengths, np.array(numbers))


def _written(target: Target, column: Column, rows: Rows, places: Rows, to: VectorRows) -> bool:
    states = _NO_STATES
    if target.encoded:
        column, states = _encoded(target.feature, take(column, rows))
        rows = np.arange(len(rows))
    content, offsets = column, _NO_OFFSETS
    if isinstance(column, Jagged):
        content, offsets = column.content, column.offsets
    lines = (_NO_LINE if line < 0 else to.counts[line] for line in target.lines)
    filled, refused = scatter(
        np.asarray(content).reshape(-1), states, offsets, rows, places, *target.numbers,
        to.x, to.mask, *lines,
    )  # fmt: skip
    return not refused and not (filled and target.feature.missing is None)


def _targets(transform: VectorTransform) -> tuple[Target, ...]:
    """The features of a transform and their places."""
    found, column, line = [], 0, 0
    for feature in transform.features:
        kinds = lines_of(feature)
        lines = [line + kinds.index(kind) if kind in kinds else -1 for kind in COUNTED]
        found.append(Target(feature, column, (lines[0], lines[1], lines[2])))
        column += feature.columns
        line += len(kinds)
    return tuple(found)


def _encoded(feature: FeatureTransform, column: Column) -> tuple[Column, NDArray[np.uint8]]:
    """Values scaled by the reference, and their states for the kernel."""
    content = column.content if isinstance(column, Jagged) else column
    found = feature.encode(content)
    states = found.filled.astype(np.uint8)
    states |= found.clipped.astype(np.uint8) << 1
    states |= (found.refused & ~found.filled).astype(np.uint8) << 2
    values = Jagged(found.values, column.offsets) if isinstance(column, Jagged) else found.values
    return values, states.reshape(-1)
