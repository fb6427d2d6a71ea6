"""The vectors of a chunk, written into the order in which they are delivered.

`VectorTransform` says what the result is; here it is made by the kernel, and threads may write
different events at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged, take
from hepdata_adapters.common.core.compiled import places_of
from hepdata_adapters.common.core.reused_memory import ReusedMemory
from hepdata_adapters.common.core.threads import shared_out
from hepdata_adapters.common.transform.vector import (
    BEYOND,
    CLIPPED,
    FILLED,
    VectorTransform,
    lines_of,
)
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_adapters.common.transform.vector_kernels import (
    BLOCK,
    FEATURE,
    scatter,
    scatter_lengths,
)

Rows = NDArray[np.int64]
KEPT = 6  # arrays: those of two chunks
COUNTED = (BEYOND, FILLED, CLIPPED)
_NO_STATES = np.empty(0, np.uint8)
_NO_OFFSETS = np.empty(0, np.int64)


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
        self._table = _table(transform)
        self._fill_is_error = np.array([one.missing is None for one in transform.features], bool)
        self._jagged = transform.jagged
        features = list(enumerate(transform.features))
        # by the reference: the kernel knows no functions and no float16
        self._encoded = [
            (number, one) for number, one in features if one.function or one.dtype == "float16"
        ]
        self._raw = [(at, one.branch) for at, one in features if (at, one) not in self._encoded]
        self._memory = ReusedMemory(KEPT)

    def empty(self, n: int) -> VectorRows:
        """Arrays for n events; their memory is used again when nobody refers to them."""
        d, lines = self.transform.num_features, len(self.transform.counted)
        return VectorRows(
            self._memory.empty((n, d), np.float32),
            self._memory.empty((n, d), np.bool_),
            self._memory.empty((n, len(self._jagged)), np.int32),
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
        raw: dict[np.dtype[Any], list[_Values]] = {}
        for number, branch in self._raw:
            values = _Values.of(number, columns[branch])
            raw.setdefault(values.content.dtype, []).append(values)
        work = []
        for branches in raw.values():
            work += self._pieces(branches, rows, places, to, threads)
        if self._encoded:
            encoded = shared_out(
                lambda one: _encoded(*one, take(columns[one[1].branch], rows)),
                self._encoded, threads,
            )  # fmt: skip
            work += self._pieces(encoded, np.arange(len(rows)), places, to, threads)
        return all(shared_out(lambda write: write(), work, threads))

    def _pieces(
        self, branches: Sequence[_Values], rows: Rows, places: Rows, to: VectorRows, threads: int
    ) -> list[Callable[[], bool]]:
        """Writes branches of one dtype, a piece of the rows each; False if a value is refused."""
        numbers, contents, states, offsets = zip(*branches, strict=True)
        like = np.empty(0, contents[0].dtype)
        values = places_of(contents), places_of(states), places_of(offsets)
        features, fill_is_error = self._table[list(numbers)], self._fill_is_error[list(numbers)]

        def write(piece: slice) -> bool:
            found = np.zeros((len(numbers), 2), np.int64)
            scatter(
                like, *values, features, rows[piece], places[piece], to.x, to.mask, to.counts, found
            )
            assert branches  # noqa: S101 (their arrays stay for as long as the kernel reads them)
            return not found[:, 1].any() and not found[fill_is_error, 0].any()

        size = max(-(-len(rows) // threads), BLOCK)
        return [partial(write, slice(first, first + size)) for first in range(0, len(rows), size)]

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


class _Values(NamedTuple):
    """The values of a feature: content, states of encoded values, and offsets of lists."""

    number: int
    content: NDArray[Any]
    states: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, number: int, column: Column, states: NDArray[np.uint8] = _NO_STATES) -> _Values:
        if isinstance(column, Jagged):
            # by its place the kernel takes memory for what it is told: int64
            offsets = column.offsets.astype(np.int64, copy=False)
            return cls(number, _plain(column.content), states, _plain(offsets))
        return cls(number, _plain(column), states, _NO_OFFSETS)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array as kernels take it by its place."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, None, ("C", "A"))


def _table(transform: VectorTransform) -> NDArray[Any]:
    """What the kernel takes of the features of a transform, ``(k,)`` of `FEATURE`."""
    rows: list[tuple[object, ...]] = []
    column = line = 0
    for feature in transform.features:
        kinds = lines_of(feature)
        lines = [line + kinds.index(one) if one in kinds else -1 for one in COUNTED]
        rows.append((
            column, feature.width, feature.center, feature.factor, *feature.interval,
            feature.fill, feature.pad, *lines, feature.indicator,
            feature.kind == "jagged" and feature.overflow == "error",
        ))  # fmt: skip
        column += feature.columns
        line += len(kinds)
    return np.array(rows, FEATURE)


def _encoded(number: int, feature: FeatureTransform, column: Column) -> _Values:
    """A column scaled by the reference, and the states of its values for the kernel."""
    content = column.content if isinstance(column, Jagged) else column
    found = feature.encode(content)
    states = found.filled.astype(np.uint8)
    states |= found.clipped.astype(np.uint8) << 1
    states |= (found.refused & ~found.filled).astype(np.uint8) << 2
    values = Jagged(found.values, column.offsets) if isinstance(column, Jagged) else found.values
    return _Values.of(number, values, states.reshape(-1))
