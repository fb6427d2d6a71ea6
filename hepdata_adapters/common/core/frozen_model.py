"""The base of all data models: they do not change, and refuse keys that they do not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """A pydantic model that is immutable and forbids unknown keys.

    >>> class Point(FrozenModel):
    ...     x: float = 0.0
    >>> Point(x=1).x
    1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
