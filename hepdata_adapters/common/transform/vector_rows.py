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
        raw: dict[np.dtype[Any], list[int]] = {}
        scaled: list[int] = []  # by the reference: kernels know no functions and no float16
        for number, feature in enumerate(self.transform.features):
            if feature.function is not None or feature.dtype == "float16":
                scaled.append(number)
            else:
                raw.setdefault(_content(columns[feature.branch]).dtype, []).append(number)
        work = []
        for numbers in raw.values():
            lists = [_Lists.of(columns[self._branch(number)]) for number in numbers]
            work += self._pieces(numbers, lists, rows, places, to, threads)
        if scaled:
            features = [self.transform.features[number] for number in scaled]
            lists = shared_out(
                lambda one: _encoded(one, columns[one.branch], rows), features, threads
            )
            work += self._pieces(scaled, lists, np.arange(len(rows)), places, to, threads)
        return all(shared_out(lambda write: write(), work, threads))

    def _branch(self, number: int) -> str:
        return self.transform.features[number].branch

    def _pieces(
        self,
        numbers: list[int],
        lists: Sequence[_Lists],
        rows: Rows,
        places: Rows,
        to: VectorRows,
        threads: int,
    ) -> list[Callable[[], bool]]:
        """Writes features of one dtype, a piece of the rows each; False if a value is refused."""
        like = lists[0].content
        contents, states, offsets = (places_of([one[part] for one in lists]) for part in range(3))
        features, fill_is_error = self._table[numbers], self._fill_is_error[numbers]

        def write(piece: slice) -> bool:
            found = np.zeros((len(numbers), 2), np.int64)
            scatter(
                like,
                contents,
                states,
                offsets,
                features,
                rows[piece],
                places[piece],
                to.x,
                to.mask,
                to.counts,
                found,
            )
            assert lists  # noqa: S101 (they stay for as long as the kernel reads them)
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


class _Lists(NamedTuple):
    """The values of a branch: content, states of scaled values, and offsets of lists."""

    content: NDArray[Any]
    states: NDArray[np.uint8] = _NO_STATES
    offsets: NDArray[np.int64] = _NO_OFFSETS

    @classmethod
    def of(cls, column: Column, states: NDArray[np.uint8] = _NO_STATES) -> _Lists:
        if isinstance(column, Jagged):
            return cls(_plain(column.content), states, _plain(column.offsets))
        return cls(_plain(column), states)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array as kernels take it by its place."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, None, ("C", "A"))


def _content(column: Column) -> NDArray[Any]:
    return np.asarray(column.content if isinstance(column, Jagged) else column)


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


def _encoded(feature: FeatureTransform, column: Column, rows: Rows) -> _Lists:
    """Events ``rows``, scaled by the reference, and the states of their values for the kernel."""
    column = take(column, rows)
    found = feature.encode(_content(column))
    states = found.filled.astype(np.uint8)
    states |= found.clipped.astype(np.uint8) << 1
    states |= (found.refused & ~found.filled).astype(np.uint8) << 2
    values = Jagged(found.values, column.offsets) if isinstance(column, Jagged) else found.values
    return _Lists.of(values, states.reshape(-1))
