"""The stream: joins manifest, plan, source and transform into batches of numpy arrays.

No framework here; the torch and tf rooms turn the same batches into their tensors.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import (
    Columns,
    Jagged,
    concatenate_all,
    empty_lists,
    flattened,
)
from hepdata_adapters.common.core.ledger import Ledger, SharedLedger
from hepdata_adapters.common.core.tally import Tally
from hepdata_adapters.common.core.threads import default_threads
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.plan.shard import RankShare, Shard
from hepdata_adapters.common.stream.chunk_loader import ChunkLoader
from hepdata_adapters.common.stream.dataset import Batch, Dataset, label_dtype
from hepdata_adapters.common.stream.read_ahead import ChunkRows, ReadAhead, Step
from hepdata_adapters.common.transform.scalings.registered import import_functions

PADDING_EVENT = -1
LEDGER_SECONDS = 0.5


class EventStream:
    """Reads the batches of a plan in one process. Open it where it is used, after any fork.

    Batches are dicts of arrays with n rows: those of the transform (``x (n, d)`` float32, ``mask
    (n, d)`` bool, ``lengths (n, j)`` int32, and those of the inputs), ``label (n,)`` in the dtype
    of `label_dtype` (if the samples have labels), ``weight (n,)`` float64, ``event (n, 2)`` int64:
    file number in the manifest, entry in the file. A ragged array has its values under its name,
    of all events after each other, and ``(n + 1,)`` int64 offsets under ``NAME_offsets``.

    processes: that share the batches, and the memory for units.
    """

    def __init__(self, dataset: Dataset, split: SplitName | None, processes: int = 1) -> None:
        import_functions(dataset.config.scaling_functions)  # in a worker process nobody has
        self.dataset, self.split = dataset, split
        self._threads = dataset.config.reading.threads or default_threads()
        self._chunks = ChunkLoader(dataset, split, self._threads, processes, self._note)
        self._reading: NDArray[np.int64] | None = None  # note for those who find us dead

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._chunks.close()

    def batches(
        self,
        steps: Iterable[Step],
        shard: Shard,
        ledger: SharedLedger | None = None,
        dropped: int = 0,
    ) -> Iterator[Batch]:
        """The batches of one worker of one rank, in the order of the steps.

        dropped: events for the ledger that no step delivers.
        """
        counts = Ledger()
        counts.add("events dropped for equal ranks", dropped)
        writer = f"{shard.rank}-{shard.worker}-{os.getpid()}-{next(_WRITERS)}"
        if ledger and self._reading is None:
            self._reading = ledger.note(f"{os.getpid()}-{next(_WRITERS)}")
        tally, written = Tally(self._chunks.counted), time.monotonic()
        try:
            with ReadAhead(self._chunks.load, self._threads) as ahead:
                for step, share, rows in ahead.rows(steps, shard):
                    batch = self._batch(step, shard, share, rows, counts, tally)
                    if ledger and time.monotonic() - written > LEDGER_SECONDS:
                        ledger.write(writer, counts.with_all_of(tally.ledger()))
                        written = time.monotonic()
                    yield batch
            self._chunks.check()
        finally:  # also where the consumer stops early
            if ledger:
                ledger.write(writer, counts.with_all_of(tally.ledger()))

    def _batch(
        self,
        step: Step,
        shard: Shard,
        share: RankShare,
        rows: Iterable[ChunkRows],
        ledger: Ledger,
        tally: Tally,
    ) -> Batch:
        """The rank's rows of a step."""
        parts = [chunk.rows(first, last, tally) for chunk, first, last in rows]
        if share.padding:
            parts.append(self._padding(share.padding))
        ledger.add("events delivered", share.last - share.first)
        ledger.add("padding rows for equal ranks", share.padding)
        ledger.add("events repeated for equal ranks", len(share.wrapped))
        ledger.add("events dropped for equal ranks", share.dropped)
        ledger.add(step.reason, step.left_out if shard.rank == 0 else 0)
        return flattened(concatenate_all(parts))

    def _padding(self, rows: int) -> Columns:
        transform = self.dataset.transform
        batch: Columns = {
            name: empty_lists(values, rows)
            if isinstance(values, Jagged)
            else np.zeros((rows, *values.shape[1:]), values.dtype)
            for name, values in transform.empty.items()
        }
        batch |= {
            "weight": np.zeros(rows, np.float64),
            "event": np.full((rows, 2), PADDING_EVENT, np.int64),
        }
        if self.dataset.layout.task:
            batch["label"] = np.zeros(rows, label_dtype(self.dataset))
        return batch

    def _note(self, file: int, first: int, last: int) -> None:
        if self._reading is not None:
            self._reading[:] = file, first, last


_WRITERS = itertools.count()
