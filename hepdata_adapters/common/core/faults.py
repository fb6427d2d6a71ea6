"""Values that a transform must not accept: which event, which branch, and why."""

from __future__ import annotations

from typing import NamedTuple

from hepdata_adapters.common.core.errors import FaultKind, InvalidValueError


class Fault(NamedTuple):
    """A value that the transform must not accept."""

    row: int
    branch: str
    reason: str
    kind: FaultKind


def refuse(fault: Fault) -> None:
    """Raise InvalidValueError for a value that the transform must not accept."""
    raise InvalidValueError(fault.reason, kind=fault.kind, branch=fault.branch, row=fault.row)
