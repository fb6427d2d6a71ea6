"""What a measured process is asked, and what it answers with: standard library and numpy alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
# ours scales in the same pass, the others do not: powers of two, so that values compare bit by bit
CENTER, SCALE = 0.5, 2.0


@dataclass(frozen=True)
class Job:
    """Files, columns and how often to go through them; travels as JSON.

    flat: branches of one value an event, the first is ``event_id``. groups: branches of the same
    number of values in an event, padded or cut to ``length``. started: `time.monotonic` of the
    parent when it started the process. cores: how many the process may use, 0 for all. sample:
    event_ids whose rows are written to ``rows`` in a further epoch that is not timed.
    """

    system: str
    files: tuple[str, ...]
    flat: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    length: int
    batch_size: int
    epochs: int
    tree: str = "Events"
    seed: int = 1
    started: float = 0.0
    cores: int = 0
    sample: tuple[int, ...] = ()
    rows: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def jagged(self) -> tuple[str, ...]:
        """The branches of all groups, in the order of their columns."""
        return tuple(name for members in self.groups.values() for name in members)

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches that are read."""
        return self.flat + self.jagged

    @property
    def columns(self) -> int:
        """Columns of a row."""
        return len(self.flat) + self.length * len(self.jagged)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Job:
        """What `write` wrote."""
        given = json.loads(path.read_text())
        given |= {name: tuple(given[name]) for name in ("files", "flat", "sample")}
        groups = {name: tuple(members) for name, members in given["groups"].items()}
        return cls(**given | {"groups": groups})


@dataclass(frozen=True)
class Source:
    """A system that is ready to deliver.

    epoch: the batches of the next epoch, as the system delivers them. events: how many a batch
    has. rows: a batch as (n, columns) float32 in the order flat, then each jagged branch's
    ``length`` values; None for what has no rows. affine: center and scale of the values of rows.
    packages: distributions whose versions are reported. versions: further ones.
    """

    epoch: Callable[[], Iterable[Any]]
    events: Callable[[Any], int]
    rows: Callable[[Any], FloatArray] | None
    packages: tuple[str, ...]
    affine: tuple[float, float] = (0.0, 1.0)
    versions: dict[str, str] = field(default_factory=dict)
