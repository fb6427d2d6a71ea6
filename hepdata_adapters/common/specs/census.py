"""How many events of each class are in each split, and what they weigh: counted by the specs pass.

Weights are those of the branch alone: constants, and the size that a cross section asks for, may
change without a new pass. Nothing is refused here: what is no label or no weight is counted, and
refused where it is delivered.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hepdata_adapters.common.config.dataset_config import Sample, Task
from hepdata_adapters.common.core.columns import Column
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.events.targets import one_each
from hepdata_adapters.common.specs.sparse import Sparse

MOST = 100
"""Classes counted one by one; those of higher numbers are counted together."""
EVERYTHING = ""
"""The class of events that have none: without labels, and in a regression."""
BEYOND = f"{MOST} and above"
NO_CLASS = "no class number"
LARGEST = float(np.finfo(np.float64).max)


class Tally(Sparse):
    """Events, and the sum of the values of their weight branch: None where they have no branch.

    unweighable: those whose weight is NaN or infinite, which the sum leaves out.
    """

    optional = ("weight", "unweighable")

    events: int = Field(default=0, ge=0)
    weight: float | None = Field(default=None, allow_inf_nan=False)
    unweighable: int = Field(default=0, ge=0)

    @property
    def sum(self) -> float:
        """The sum of the weights, each 1 where there is no branch."""
        return float(self.events) if self.weight is None else self.weight

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            events=self.events + other.events,
            weight=None if self.weight is other.weight is None else _held(self.sum + other.sum),
            unweighable=self.unweighable + other.unweighable,
        )


Census = dict[str, dict[SplitName, Tally]]
"""By class (its number as text) and split."""


def class_names(
    sample: Sample, task: Task | None, columns: Mapping[str, Column], rows: NDArray[np.int64]
) -> NDArray[np.str_]:
    """The class of each of the events ``rows`` as the census names it, ``(n,)``."""
    if task not in ("binary", "multiclass") or sample.label is None:
        return np.full(len(rows), EVERYTHING)
    if not isinstance(sample.label, str):
        return np.full(len(rows), f"{sample.label:g}")
    values = one_each(columns[sample.label])[rows].astype(np.float64)
    different, which = np.unique(values, return_inverse=True)
    return np.array([_name(value) for value in different.tolist()] or [""])[which]


def census_of(
    names: NDArray[np.str_],
    sample: Sample,
    columns: Mapping[str, Column],
    rows: NDArray[np.int64],
    codes: NDArray[np.int64],
) -> Census:
    """Count the events ``rows`` of classes ``names``, ``(n,)``; codes: the split of each."""
    branch = sample.weight.branch
    weights = np.ones(len(rows))
    if branch is not None:
        weights = one_each(columns[branch])[rows].astype(np.float64)
    finite = np.isfinite(weights)
    found: Census = {}
    for name in np.unique(names).tolist():
        for code in np.unique(codes[names == name]).tolist():
            own = (names == name) & (codes == code)
            found.setdefault(name, {})[SPLITS[code]] = Tally(
                events=int(own.sum()),
                weight=None if branch is None else _sum(weights[own & finite]),
                unweighable=int((own & ~finite).sum()),
            )
    return found


def added(one: Census, other: Census) -> Census:
    """The counts of both."""
    found = {name: dict(splits) for name, splits in one.items()}
    for name, splits in other.items():
        own = found.setdefault(name, {})
        for split, tally in splits.items():
            own[split] = own[split].plus(tally) if split in own else tally
    return dict(sorted(found.items()))


def lowest_number(name: str) -> int | None:
    """The number of a class of the census, the lowest of those counted together; None for none.

    >>> lowest_number("7"), lowest_number(BEYOND), lowest_number(NO_CLASS)
    (7, 100, None)
    """
    return MOST if name == BEYOND else int(name) if name.isdecimal() else None


def _name(value: float) -> str:
    if not np.isfinite(value) or value < 0 or value % 1:
        return NO_CLASS
    return str(int(value)) if value < MOST else BEYOND


def _sum(values: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        return _held(float(values.sum()))


def _held(total: float) -> float:
    """JSON has no infinity."""
    return min(max(total, -LARGEST), LARGEST)
