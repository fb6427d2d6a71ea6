"""A position in the plan: small JSON from which any process can go on. Pure, no I/O.

Where global batch g lies is a function of g alone (see `plan`), so the number of global batches
delivered says everything, whoever delivered them. Beside it stands what the plan depends on: a
state is refused where any of that differs, with what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hepdata_adapters.common.core.errors import StateError


class PlanIdentity(BaseModel):
    """All that decides which events are in which global batch, but for the epoch.

    data: hash of the specs (files, clusters, split, selection). features: hash of the transform.
    batch_size: events in a global batch, all ranks together. order: the version of the order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    features: str
    split: str | None
    shuffle: bool
    seed: int
    sampling: str
    batch_size: int = Field(ge=1)
    canonical_ranks: int = Field(ge=1)
    canonical_workers: int = Field(ge=1)
    order: int = 1

    def differences(self, other: PlanIdentity) -> list[str]:
        """What the other has instead, a phrase each.

        >>> one = PlanIdentity(data="a", features="b", split="train", shuffle=True, seed=1,
        ...     sampling="c", batch_size=64, canonical_ranks=1, canonical_workers=12)
        >>> one.differences(one.model_copy(update={"seed": 2}))
        ['seed is 2, was 1']
        """
        hashed = {
            "data": "other data", "features": "other features", "sampling": "other sampling",
            "order": "another version of this package, which orders events in another way",
        }  # fmt: skip
        found = []
        for name, mine in self:
            theirs = getattr(other, name)
            if mine != theirs:
                found.append(hashed.get(name, f"{name} is {theirs}, was {mine}"))
        return found


class Cursor(BaseModel):
    """How many global batches of an epoch were delivered, and of which plan.

    The same on all ranks. It fits any number of ranks and workers that keeps the global batch
    size. Size: well below 1 KiB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["hepdata-cursor"] = "hepdata-cursor"
    version: Literal[1] = 1
    plan: PlanIdentity
    epoch: int = Field(ge=0)
    batches: int = Field(ge=0)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Cursor:
        """A cursor from what `state` gave. Raises StateError for anything else."""
        try:
            return cls.model_validate(dict(state))
        except (ValidationError, TypeError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise StateError(
                f"this is no state of a loader, or of another version: {reason}"
            ) from None

    def state(self) -> dict[str, Any]:
        """Plain numbers and strings, ready for JSON and for checkpoints."""
        return self.model_dump(mode="json")

    def check(self, present: PlanIdentity) -> None:
        """Raise StateError naming what differs, unless this state belongs to that plan."""
        differences = self.plan.differences(present)
        if differences:
            raise StateError(f"the state belongs to another run: {'; '.join(differences)}")
