"""Values that a transform must not accept: which event, which branch, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hepdata_adapters.common.core.errors import FaultKind, InvalidValueError


class Fault(NamedTuple):
    """A value that the transform must not accept."""

    row: int
    branch: str
    reason: str
    kind: FaultKind


def error_of(fault: Fault, advice: str = "") -> InvalidValueError:
    """The error for a value that the transform must not accept, with what settles it.

    >>> fault = Fault(2, "MET", "MET holds NaN", "missing")
    >>> print(error_of(fault, "leave it out").at("a.root", "Events", 100))
    MET holds NaN; leave it out [file a.root, tree Events, branch MET, entry 102]
    """
    what = f"{fault.reason}; {advice}" if advice else fault.reason
    return InvalidValueError(what, kind=fault.kind, branch=fault.branch, row=fault.row)


def refuse(fault: Fault) -> None:
    """Raise InvalidValueError for a value that the transform must not accept."""
    raise error_of(fault)


def first_reasons(faults: Sequence[Fault]) -> dict[int, str]:
    """The first reason against each event that has one, by row."""
    return {fault.row: fault.reason for fault in reversed(faults)}
