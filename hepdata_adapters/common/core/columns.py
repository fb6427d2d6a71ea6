"""Columns of events: numpy arrays for flat branches, content and offsets for jagged ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
OFFSETS = "_offsets"


@dataclass(frozen=True, eq=False)
class Jagged:
    """A variable number of values per event.

    Event ``i`` owns ``content[offsets[i]:offsets[i + 1]]``.

    content: ``(sum of lengths,)`` of any numeric dtype; offsets: ``(n + 1,)`` int64, from 0.

    >>> jets = Jagged.from_lists([[30.0, 25.0], [], [41.0]])
    >>> len(jets), jets.lengths.tolist()
    (3, [2, 0, 1])
    """

    content: Array
    offsets: NDArray[np.int64]

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[Any]], dtype: Any = np.float64) -> Jagged:
        """Build from Python lists, one an event."""
        lengths = np.fromiter((len(values) for values in lists), np.int64, len(lists))
        content = np.array([value for values in lists for value in values], dtype=dtype)
        return cls(content, offsets_from_lengths(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Values per event, ``(n,)`` int64."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        return self.content.nbytes + self.offsets.nbytes

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.content.dtype

    def to_lists(self) -> list[list[Any]]:
        """One Python list an event."""
        bounds = self.offsets.tolist()
        values = self.content.tolist()
        return [values[a:b] for a, b in itertools.pairwise(bounds)]


Column = Array | Jagged


def numeric_dtype(name: str) -> str:
    """The name of a dtype of numbers or bool. Raises ValueError for any other.

    >>> numeric_dtype("float32")
    'float32'
    """
    try:
        if np.dtype(name).kind in "biuf":
            return name
    except TypeError:
        pass
    raise ValueError(f"{name!r} is not a numeric dtype")


Columns = dict[str, Column]


def with_shared_offsets(columns: Columns) -> Columns:
    """The same columns; lists of equal lengths have one and the same array of offsets.

    >>> pt, eta = Jagged.from_lists([[30.0], []]), Jagged.from_lists([[1.5], []])
    >>> one, other = with_shared_offsets({"pt": pt, "eta": eta}).values()
    >>> one.offsets is other.offsets
    True
    """
    known: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    shared: Columns = {}
    for name, column in columns.items():
        shared[name] = column
        if isinstance(column, Jagged):
            alike = known.setdefault((len(column), len(column.content)), [])
            same = next((own for own in alike if np.array_equal(own, column.offsets)), None)
            if same is None:
                alike.append(column.offsets)
            else:
                shared[name] = Jagged(column.content, same)
    return shared


def held_bytes(columns: Columns) -> int:
    """Bytes of the arrays of columns, each counted once.

    >>> held_bytes({"pt": Jagged.from_lists([[30.0], []]), "MET": np.zeros(2)})
    48
    """
    arrays = {
        id(array): array.nbytes
        for column in columns.values()
        for array in ((column.content, column.offsets) if isinstance(column, Jagged) else (column,))
    }
    return sum(arrays.values())


def offsets_from_lengths(lengths: Array) -> NDArray[np.int64]:
    """``(n,)`` lengths to ``(n + 1,)`` offsets that start at 0.

    >>> offsets_from_lengths(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: Array, lengths: Array) -> NDArray[np.int64]:
    """The concatenation of ``arange(start, start + length)`` for each pair.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = offsets_from_lengths(lengths)
    return np.arange(before[-1]) + np.repeat(np.asarray(starts) - before[:-1], lengths)


def rows_with(column: Column, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each event has a flag set. flags: one for each value of the column.

    >>> lists = Jagged.from_lists([[1.0, 2.0], [], [3.0]])
    >>> rows_with(lists, np.array([True, False, False])).tolist()
    [True, False, False]
    """
    if isinstance(column, Jagged):
        before = offsets_from_lengths(flags)
        return np.asarray(before[column.offsets[1:]] > before[column.offsets[:-1]])
    return np.asarray(flags.reshape(len(flags), -1).any(axis=1))


def take(column: Column, rows: Array) -> Column:
    """The events ``rows`` (integer indices) of a column, in that order."""
    return take_all({"": column}, rows)[""]


def concatenate(columns: Sequence[Column]) -> Column:
    """Columns of one branch, one after the other.

    >>> both = concatenate([Jagged.from_lists([[1.0]]), Jagged.from_lists([[], [2.0]])])
    >>> both.to_lists()
    [[1.0], [], [2.0]]
    """
    return concatenate_all([{"": column} for column in columns])[""]


def empty_lists(column: Jagged, rows: int) -> Jagged:
    """So many events without a value, like those of the column."""
    return Jagged(column.content[:0], np.zeros(rows + 1, np.int64))


def take_all(columns: Mapping[str, Column], rows: Array) -> Columns:
    """`take` for every column; lists that share offsets go on sharing them."""
    places: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    taken: Columns = {}
    for name, column in columns.items():
        if not isinstance(column, Jagged):
            taken[name] = column[rows]
            continue
        shared = id(column.offsets)
        if shared not in places:
            lengths = column.lengths[rows]
            starts = column.offsets[:-1][rows]
            places[shared] = ranges(starts, lengths), offsets_from_lengths(lengths)
        index, offsets = places[shared]
        taken[name] = Jagged(column.content[index], offsets)
    return taken


def sliced_all(columns: Mapping[str, Column], first: int, last: int) -> Columns:
    """Events ``first`` to ``last`` of every column, views where they can be.

    >>> lists = Jagged.from_lists([[1.0], [2.0, 3.0], [4.0]])
    >>> sliced_all({"pt": lists}, 1, 3)["pt"].to_lists()
    [[2.0, 3.0], [4.0]]
    """
    known: dict[int, NDArray[np.int64]] = {}
    sliced: Columns = {}
    for name, column in columns.items():
        if not isinstance(column, Jagged):
            sliced[name] = column[first:last]
            continue
        begin, end = int(column.offsets[first]), int(column.offsets[last])
        if id(column.offsets) not in known:
            known[id(column.offsets)] = column.offsets[first : last + 1] - begin
        sliced[name] = Jagged(column.content[begin:end], known[id(column.offsets)])
    return sliced


def flattened(columns: Mapping[str, Column]) -> dict[str, Array]:
    """Arrays only: a ragged column becomes its values and, as ``NAME_offsets``, its offsets."""
    arrays: dict[str, Array] = {}
    handed: set[int] = set()
    for name, column in columns.items():
        if isinstance(column, Jagged):
            # whoever gets them may write to them
            own = column.offsets.copy() if id(column.offsets) in handed else column.offsets
            handed.add(id(column.offsets))
            arrays[name], arrays[name + OFFSETS] = column.content, own
        else:
            arrays[name] = column
    return arrays


def concatenate_all(parts: Sequence[Mapping[str, Column]]) -> Columns:
    """`concatenate` for every branch of the first part; shared offsets go on being shared."""
    if len(parts) == 1:
        return dict(parts[0])
    known: dict[tuple[int, ...], NDArray[np.int64]] = {}
    joined: Columns = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        lists = [column for column in columns if isinstance(column, Jagged)]
        if not lists:
            joined[name] = np.concatenate([c for c in columns if not isinstance(c, Jagged)])
            continue
        shared = tuple(id(column.offsets) for column in lists)
        if shared not in known:
            known[shared] = offsets_from_lengths(np.concatenate([one.lengths for one in lists]))
        joined[name] = Jagged(np.concatenate([one.content for one in lists]), known[shared])
    return joined
