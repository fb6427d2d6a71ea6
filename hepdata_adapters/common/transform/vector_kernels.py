"""The loop of the vector: raw values of branches, scaled and padded, into the rows of events.

What it does is what `FeatureTransform.encode` and `VectorTransform` say, in one pass: each number
is read once, each cell written once. The results are the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.compiled import Places, Unsigned, array_at, compiled
from hepdata_adapters.common.transform.scaling import LARGEST

FILLED: Final = 1
CLIPPED: Final = 2
TOO_LARGE: Final = 4

BLOCK: Final = 256
"""Rows of which all branches are written before the next ones: they stay in the processor's cache
(1.08 us an event against 1.32 branch by branch, 438 columns; 64 and 1,024 rows are slower)."""

FEATURE: Final = np.dtype(
    [
        ("column", "i8"), ("width", "i8"), ("center", "f8"), ("factor", "f8"), ("low", "f8"),
        ("high", "f8"), ("fill", "f4"), ("pad", "f4"), ("beyond", "i8"), ("filled", "i8"),
        ("clipped", "i8"), ("indicator", "?"), ("long_is_error", "?"),
    ],
    align=True,
)  # fmt: skip
"""What the loop takes of a branch: its first column of ``x``, and the lines of ``counts`` for its
values beyond the width, filled and clipped ones, -1 where there is none."""


@compiled
def scatter(
    like: NDArray[Any],
    contents: Places,
    states: Places,
    offsets: Places,
    features: NDArray[Any],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    counts: NDArray[np.int32],
    found: NDArray[np.int64],
) -> None:
    """Events ``rows`` of k branches of one dtype into rows ``places`` of ``x`` and ``mask``.

    like: any array of the dtype. contents: where their values are, raw, or scaled with ``states``
    beside them; ``states`` of length 0 for raw ones. offsets: of lists, ``(n + 1,)`` int64; of
    length 0 where each event has ``width`` values. features: ``(k,)`` of `FEATURE`. counts:
    ``(C, rows of x)``, of zeros. found: ``(k, 2)``, gets how many values are filled, and how many
    refused: those that are too large, and lists that are too long where that is an error. Rows,
    places and offsets are inside of what they index.
    """
    bytes_of_states = mask.view(np.uint8)
    for begin in range(0, len(rows), BLOCK):
        for branch in range(len(features)):
            filled, refused = _scatter(
                array_at(contents, branch, like),
                array_at(states, branch, bytes_of_states),
                array_at(offsets, branch, found),
                features[branch],
                rows[begin : begin + BLOCK],
                places[begin : begin + BLOCK],
                x,
                mask,
                counts,
            )
            found[branch, 0] += filled
            found[branch, 1] += refused


@compiled
def _scatter(
    content: NDArray[Any],
    states: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    feature: Any,
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    counts: NDArray[np.int32],
) -> tuple[int, int]:
    """One branch of `scatter`; returns what is found."""
    low, high, center, factor = feature.low, feature.high, feature.center, feature.factor
    fill, pad, indicator = feature.fill, feature.pad, feature.indicator
    lists, encoded = len(offsets) > 0, len(states) > 0
    all_filled = refused = 0
    wide, cells, marks = Unsigned(feature.width), x.reshape(-1), mask.reshape(-1)
    for number in range(len(rows)):
        row, place = Unsigned(rows[number]), Unsigned(places[number])
        if lists:
            first = Unsigned(offsets[row])
            size = Unsigned(offsets[row + Unsigned(1)]) - first
        else:
            first, size = row * wide, wide
        kept = min(size, wide)
        at = place * Unsigned(x.shape[1]) + Unsigned(feature.column)
        values, real = cells[at : at + wide], marks[at : at + wide]
        for cell in range(len(values)):  # all of them: as many steps for each row are the fastest
            values[cell] = pad
        for cell in range(len(real)):
            real[cell] = Unsigned(cell) < kept
        if indicator:  # without views, which are counted even where there is none
            for cell in range(wide):
                cells[at + wide + Unsigned(cell)] = np.float32(0.0)
                marks[at + wide + Unsigned(cell)] = Unsigned(cell) < kept
        for number_in_list in range(size):
            index = Unsigned(number_in_list)
            state = 0
            # branches, not flags: what is rare costs nothing where it is not
            if encoded:
                state = int(states[first + index])
                value = np.float32(content[first + index])
            else:
                number64: float = np.float64(content[first + index])  # of bool, too
                if np.isfinite(number64):
                    if number64 < low:
                        number64, state = low, CLIPPED
                    elif number64 > high:
                        number64, state = high, CLIPPED
                    number64 = (number64 - center) * factor
                    if abs(number64) > LARGEST:
                        state |= TOO_LARGE
                    value = np.float32(number64)
                else:
                    value, state = fill, FILLED
            if index < kept:
                values[index] = value
            if state:
                if state & FILLED:
                    all_filled += 1
                    if index < kept:
                        real[index] = False
                        if indicator:
                            cells[at + wide + index] = np.float32(1.0)
                    if feature.filled >= 0:
                        counts[feature.filled, place] += 1
                if state & CLIPPED and feature.clipped >= 0:
                    counts[feature.clipped, place] += 1
                if state & TOO_LARGE:
                    refused += 1
        if size > kept:
            if feature.long_is_error:
                refused += 1
            if feature.beyond >= 0:
                counts[feature.beyond, place] = size - kept
    return all_filled, refused


@compiled
def scatter_lengths(
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    width: int,
    lengths: NDArray[np.int32],
    numbers: NDArray[np.int64],
) -> None:
    """How many values are kept of lists that share offsets, into columns ``numbers`` of lengths."""
    for number in range(len(rows)):
        row, place = Unsigned(rows[number]), Unsigned(places[number])
        kept = min(offsets[row + Unsigned(1)] - offsets[row], width)
        for column in range(len(numbers)):
            lengths[place, Unsigned(numbers[column])] = kept
