"""The loop of the vector: raw values of one branch, scaled and padded, into the rows of events.

What it does is what `FeatureTransform.encode` and `VectorTransform` say, in one pass: each number
is read once, each cell written once. The results are the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.compiled import Unsigned, compiled
from hepdata_adapters.common.transform.scaling import LARGEST

FILLED: Final = 1
CLIPPED: Final = 2
TOO_LARGE: Final = 4


@compiled
def scatter(
    content: NDArray[Any],
    states: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    column: int,
    width: int,
    center: float,
    factor: float,
    low: float,
    high: float,
    fill: np.float32,
    pad: np.float32,
    indicator: bool,
    long_is_error: bool,
    x: NDArray[np.float32],
    mask: NDArray[np.bool_],
    beyond: NDArray[np.int32],
    filled: NDArray[np.int32],
    clipped: NDArray[np.int32],
) -> tuple[int, int]:
    """Events ``rows`` of a branch into rows ``places`` of ``x`` and ``mask``, from ``column`` on.

    content: its values, raw, or scaled with ``states`` beside them; ``states`` is empty for raw
    ones. offsets: ``(n + 1,)`` of lists; empty where each event has ``width`` values.
    beyond, filled, clipped: ``(rows of x,)`` each, of zeros, or empty where nobody asks. Rows,
    places and offsets are inside of what they index.

    Returns how many values are filled, and how many are refused: those that are too large, and
    lists that are too long where that is an error.
    """
    lists, encoded = len(offsets) > 0, len(states) > 0
    all_filled = refused = 0
    wide, cells, marks = Unsigned(width), x.reshape(-1), mask.reshape(-1)
    for number in range(len(rows)):
        row, place = Unsigned(rows[number]), Unsigned(places[number])
        if lists:
            first = Unsigned(offsets[row])
            size = Unsigned(offsets[row + Unsigned(1)]) - first
        else:
            first, size = row * wide, wide
        kept = min(size, wide)
        at = place * Unsigned(x.shape[1]) + Unsigned(column)
        values, real = cells[at : at + wide], marks[at : at + wide]
        for cell in range(len(values)):  # all of them: as many steps for each row are the fastest
            values[cell] = pad
        for cell in range(len(real)):
            real[cell] = Unsigned(cell) < kept
        if indicator:  # without views, which are counted even where there is none
            for cell in range(width):
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
                    if len(filled):
                        filled[place] += 1
                if state & CLIPPED and len(clipped):
                    clipped[place] += 1
                if state & TOO_LARGE:
                    refused += 1
        if size > kept:
            if long_is_error:
                refused += 1
            if len(beyond):
                beyond[place] = size - kept
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
