"""Which rows of which global batches a process delivers. Pure; see `plan` for the reasoning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from hepdata_adapters.common.core.errors import ConfigError

Uneven = Literal["pad", "drop", "wrap"]


class RankShare(NamedTuple):
    """What a rank delivers of a global batch: rows ``first`` to ``last``, then filling.

    padding: rows of weight 0. wrapped: rows of the first global batch of the epoch, by number.
    dropped: rows of the global batch that no rank delivers.
    """

    batch: int
    first: int
    last: int
    padding: int = 0
    wrapped: tuple[int, ...] = ()
    dropped: int = 0


@dataclass(frozen=True)
class Shard:
    """One process of a job: a rank of the training and a worker of its DataLoader.

    Worker w of W delivers the batches w, w + W, …: the order in which a DataLoader asks its
    workers, so that the rank sees the batches in global order.

    uneven: what becomes of a global batch whose rows the ranks cannot share equally, so that all
    make the same steps without asking each other. ``pad`` adds rows of weight 0, ``drop`` leaves
    the surplus rows out, ``wrap`` adds the first rows of the epoch once more.
    """

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1
    uneven: Uneven = "pad"

    def __post_init__(self) -> None:
        for name, index, count in (
            ("rank", self.rank, self.world_size),
            ("worker", self.worker, self.workers),
        ):
            if not 0 <= index < count:
                raise ConfigError(f"{name} {index} is not among {count} (0 to {count - 1})")
        if self.uneven not in get_args(Uneven):
            raise ConfigError(
                f"uneven is one of {', '.join(get_args(Uneven))}, not {self.uneven!r}"
            )

    def share(self, batch: int, rows: int, first_rows: int | None = None) -> RankShare:
        """The rank's part of a global batch of ``rows`` rows; all ranks get equally many.

        first_rows: rows of the first global batch of the epoch, if it is not this one.

        >>> [Shard(rank, 3).share(0, 7)[1:4] for rank in (0, 1, 2)]
        [(0, 3, 0), (3, 6, 0), (6, 7, 2)]
        >>> [Shard(rank, 3, uneven="drop").share(0, 7)[1:3] for rank in (0, 1, 2)]
        [(0, 2), (2, 4), (4, 6)]
        >>> Shard(2, 3, uneven="wrap").share(5, 7, first_rows=9).wrapped
        (0, 1)
        """
        if self.uneven == "drop":
            each = rows // self.world_size
            # one rank counts them, for all
            dropped = rows - each * self.world_size if self.rank == 0 else 0
            return RankShare(batch, self.rank * each, (self.rank + 1) * each, dropped=dropped)
        each = -(-rows // self.world_size)
        first, last = min(self.rank * each, rows), min((self.rank + 1) * each, rows)
        missing = each - (last - first)
        if self.uneven == "pad":
            return RankShare(batch, first, last, padding=missing)
        start = max(0, self.rank * each - rows)
        wrapped = (number % (first_rows or rows) for number in range(start, start + missing))
        return RankShare(batch, first, last, wrapped=tuple(wrapped))

    def steps(self, batches: int, last_rows: int) -> int:
        """How many of the global batches are delivered, the last of which has ``last_rows``.

        Equal on all ranks; ``drop`` leaves out a last batch of fewer rows than ranks.

        >>> Shard(0, 4).steps(3, 2), Shard(0, 4, uneven="drop").steps(3, 2)
        (3, 2)
        """
        return batches - (batches > 0 and self.uneven == "drop" and last_rows < self.world_size)

    def batches(self, count: int, start: int = 0) -> Iterator[int]:
        """The numbers that this worker delivers of ``count`` batches, from ``start`` on.

        >>> list(Shard(0, 1, worker=1, workers=2).batches(7, start=2))
        [3, 5]
        """
        return iter(range(start + self.worker, count, self.workers))
