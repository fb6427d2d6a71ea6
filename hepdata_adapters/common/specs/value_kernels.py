"""Kernels over the values of a unit: which are missing, and those of some events side by side.

Numbers come as unsigned integers of their width, so that one kernel serves all dtypes of a width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.compiled import compiled

Bits = NDArray[Any]
Places = NDArray[np.int64]


@compiled
def missing_values(bits: Bits, exponent: Any) -> int:
    """How many floats are NaN or infinite: those of whose exponent all bits are set."""
    found = 0
    for value in bits:
        found += (value & exponent) == exponent
    return found


@compiled
def missing_rows(bits: Bits, exponent: Any, starts: Places, stops: Places, rows: Places) -> int:
    """Of the events ``rows`` those with such a float among their values ``starts`` to ``stops``."""
    found = 0
    for row in rows:
        for place in range(starts[row], stops[row]):
            if (bits[place] & exponent) == exponent:
                found += 1
                break
    return found


@compiled
def copied(bits: Bits, starts: Places, stops: Places, out: Bits) -> None:
    """The stretches ``starts`` to ``stops``, one behind the other; ``out`` has room for them."""
    done = 0
    for stretch in range(len(starts)):
        for place in range(starts[stretch], stops[stretch]):
            out[done] = bits[place]
            done += 1
