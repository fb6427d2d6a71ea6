"""Which rows of which global batches a process delivers. Pure; see `plan` for the reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from hepdata_adapters.common.errors import ConfigError


class Share(NamedTuple):
    """Rows ``first`` to ``last`` of a global batch, plus ``padding`` rows of weight 0."""

    batch: int
    first: int
    last: int
    padding: int


@dataclass(frozen=True)
class Shard:
    """One process of a job: a rank of the training and a worker of its DataLoader.

    Worker w of W delivers the batches w, w + W, …: the order in which a DataLoader asks its
    workers, so that the rank sees the batches in global order.
    """

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name, index, count in (
            ("rank", self.rank, self.world_size),
            ("worker", self.worker, self.workers),
        ):
            if not 0 <= index < count:
                raise ConfigError(f"{name} {index} is not among {count} (0 to {count - 1})")

    def share(self, batch: int, rows: int) -> Share:
        """The rank's rows of a global batch of ``rows`` rows; all ranks get equally many.

        >>> [Shard(rank, 3).share(0, 7) for rank in (0, 1, 2)]  # doctest: +NORMALIZE_WHITESPACE
        [Share(batch=0, first=0, last=3, padding=0), Share(batch=0, first=3, last=6, padding=0),
         Share(batch=0, first=6, last=7, padding=2)]
        """
        each = -(-rows // self.world_size)
        first, last = min(self.rank * each, rows), min((self.rank + 1) * each, rows)
        return Share(batch, first, last, each - (last - first))

    def batches(self, count: int) -> Iterator[int]:
        """The numbers of the global batches this worker delivers, of ``count`` in all."""
        return iter(range(self.worker, count, self.workers))
