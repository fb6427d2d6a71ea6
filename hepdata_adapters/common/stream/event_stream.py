"""The stream: joins manifest, plan, source and transform into batches of numpy arrays.

No framework here; the torch and tf rooms turn the same batches into their tensors.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import (
    Columns,
    Jagged,
    concatenate_all,
    empty_lists,
    flattened,
    take_all,
)
from hepdata_adapters.common.core.errors import DataError, InvalidValueError
from hepdata_adapters.common.core.faults import error_of
from hepdata_adapters.common.core.ledger import Ledger, LedgerKind, SharedLedger
from hepdata_adapters.common.events.class_counts import copies_of
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.events.unit_events import UnitEvents, read_unit
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.files.unit_cache import Units
from hepdata_adapters.common.plan.plan import Chunk, Piece, Plan, UnitRange
from hepdata_adapters.common.plan.shard import Shard
from hepdata_adapters.common.stream.dataset import Batch, Dataset, label_dtype
from hepdata_adapters.common.stream.kept_units import columns_read, kept_units
from hepdata_adapters.common.stream.memory import buffer_of
from hepdata_adapters.common.transform.advice import advice_for
from hepdata_adapters.common.transform.pipeline import Transformed
from hepdata_adapters.common.transform.scalings.registered import import_functions

PADDING_EVENT = -1
COUNTS = "counts"  # of the ledger; never delivered
OBJECTS = "objects"  # before and after cuts; become part of the counts
LEDGER_SECONDS = 0.5


class Step(NamedTuple):
    """A global batch to deliver. left_out: events after it that no rank is to deliver, and why."""

    plan: Plan
    batch: int
    left_out: int = 0
    reason: LedgerKind = "events dropped for equal ranks"


class Loaded(NamedTuple):
    """A chunk in memory: its transformed events as read, and the order to deliver them in."""

    chunk: Chunk
    events: Columns
    order: NDArray[np.int64]


class EventStream:
    """Reads the batches of a plan in one process. Open it where it is used, after any fork.

    Batches are dicts of arrays with n rows: those of the transform (``x (n, d)`` float32, ``mask
    (n, d)`` bool, ``lengths (n, j)`` int32, and those of the inputs), ``label (n,)`` in the dtype
    of `label_dtype` (if the samples have labels), ``weight (n,)`` float64, ``event (n, 2)`` int64:
    file number in the manifest, entry in the file. A ragged array has its values under its name,
    of all events after each other, and ``(n + 1,)`` int64 offsets under ``NAME_offsets``.
    """

    def __init__(self, dataset: Dataset, split: SplitName | None) -> None:
        import_functions(dataset.config.scaling_functions)  # in a worker process nobody has
        self.dataset, self.split = dataset, split
        self._objects = dataset.transform.objects_counted
        self._counted = (*dataset.transform.counted, *self._objects.values())
        self._sources: dict[tuple[str, ...], Source] = {}
        self._kept: Units | None = None
        self._reading: NDArray[np.int64] | None = None  # note for those who find us dead

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()

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
        self._kept = kept_units(self.dataset, shard.workers)
        counts = Ledger()
        counts.add("events dropped for equal ranks", dropped)
        writer = f"{shard.rank}-{shard.worker}-{os.getpid()}-{next(_WRITERS)}"
        if ledger and self._reading is None:
            self._reading = ledger.note(f"{os.getpid()}-{next(_WRITERS)}")
        chunks: dict[int, Loaded] = {}
        present: Plan | None = None
        written = time.monotonic()
        try:
            for step in steps:
                if step.plan is not present:
                    chunks.clear()
                    present = step.plan
                batch = self._batch(step, shard, chunks, counts)
                if ledger and time.monotonic() - written > LEDGER_SECONDS:
                    ledger.write(writer, counts)
                    written = time.monotonic()
                yield batch
            for source in self._sources.values():
                source.check()
        finally:  # also where the consumer stops early
            if ledger:
                ledger.write(writer, counts)

    def _batch(self, step: Step, shard: Shard, chunks: dict[int, Loaded], ledger: Ledger) -> Batch:
        """The rank's rows of a step; ``chunks`` keeps the chunk of each canonical stream."""
        plan = step.plan
        share = shard.share(step.batch, plan.rows(step.batch), plan.rows(0))
        parts = [self._rows(plan, piece, chunks) for piece in plan.locate(*share[:3])]
        for row in share.wrapped:
            parts += [self._rows(plan, piece, chunks) for piece in plan.locate(0, row, row + 1)]
        if share.padding:
            parts.append(self._padding(share.padding))
        events = concatenate_all(parts)
        counts = np.asarray(events.pop(COUNTS))
        ledger.add_counts(counts, self._counted)
        ledger.add("events delivered", share.last - share.first)
        ledger.add("padding rows for equal ranks", share.padding)
        ledger.add("events repeated for equal ranks", len(share.wrapped))
        ledger.add("events dropped for equal ranks", share.dropped)
        ledger.add(step.reason, step.left_out if shard.rank == 0 else 0)
        return flattened(events)

    def _rows(self, plan: Plan, piece: Piece, chunks: dict[int, Loaded]) -> Columns:
        loaded = chunks.get(piece.stream)
        if loaded is None or loaded.chunk != piece.chunk:
            # the old one goes first: memory is one chunk a stream
            loaded = None
            chunks.pop(piece.stream, None)
            loaded = Loaded(piece.chunk, self._load(plan, piece.chunk), plan.order(piece.chunk))
            chunks[piece.stream] = loaded
        rows = loaded.order[piece.first : piece.last]
        return take_all(loaded.events, rows)

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
            COUNTS: np.zeros((rows, len(self._counted)), np.int32),
        }
        if self.dataset.layout.task:
            batch["label"] = np.zeros(rows, label_dtype(self.dataset))
        return batch

    def _load(self, plan: Plan, chunk: Chunk) -> Columns:
        parts: list[tuple[Columns, Columns]] = []
        part: UnitRange | None = None
        try:
            for part in plan.parts(chunk):
                parts.append(self._part(part))
            merged = concatenate_all([targets for targets, _ in parts])
            columns = concatenate_all([features for _, features in parts])
            made = self._transformed(columns, np.asarray(merged["event"]))
        except MemoryError as error:
            raise self._out_of_memory(part) from error
        counts = np.concatenate([made.counts, np.asarray(merged.pop(OBJECTS))], axis=1)
        return merged | made.arrays | {COUNTS: counts}

    def _out_of_memory(self, part: UnitRange | None) -> DataError:
        """The error for a chunk that the memory does not hold, with the part that it came to."""
        dataset = self.dataset
        buffer = buffer_of(dataset.transform, dataset.config.sampling, dataset.specs)
        if part is None:
            return DataError(f"the memory ran out: {buffer}")
        file = dataset.manifest.files[part.file]
        units = file.units[part.unit : part.unit + 2].tolist()
        return DataError(
            f"the memory ran out: {buffer}",
            file=file.url, tree=file.tree, entries=(units[0], units[1]),
        )  # fmt: skip

    def _part(self, part: UnitRange) -> tuple[Columns, Columns]:
        """The targets and the feature columns of a unit range."""
        dataset = self.dataset
        events = self._delivered(self._events(part.file, part.unit), part)
        weight, columns, rows = events.weights, events.unit.columns, events.rows
        if part.label is not None:
            weight = self._sampled_weight(weight, part.label)
        targets: Columns = {
            "event": events.identity(part.file),
            "weight": weight,
            OBJECTS: self._object_counts(columns, rows),
        }
        if dataset.layout.task:
            targets["label"] = events.labels
        features = {name: columns[name] for name in dataset.transform.columns}
        return targets, take_all(features, rows)

    def _events(self, number: int, unit: int) -> UnitEvents:
        """The events of a unit of a file that are selected and belong to the split."""
        dataset = self.dataset
        file = dataset.manifest.files[number]
        if self._reading is not None:
            self._reading[:] = number, file.units[unit], file.units[unit + 1]
        read = read_unit(self._source(file), file, unit, keep=True)
        events = UnitEvents(read, dataset.config, dataset.layout, label_dtype(dataset))
        return events.of(self.split)

    def _delivered(self, events: UnitEvents, part: UnitRange) -> UnitEvents:
        """The events of a part: of one class, and each as often as it is drawn, if so wanted."""
        sampling, counts = self.dataset.config.sampling, self.dataset.counts
        piece = slice(part.first, part.last)
        if part.label is None:
            return events.taken(piece)
        of_class = np.flatnonzero(events.labels == part.label)
        if not sampling.resample:
            return events.taken(of_class[piece])
        events = events.taken(of_class)  # weights of no other class are looked at
        reference = counts.reference if counts else 1.0
        weights, entries, file = events.weights, events.entries, events.unit.file
        copies = copies_of(weights, entries, file, reference, sampling.seed)
        return events.taken(np.repeat(np.arange(len(copies)), copies)[piece])

    def _object_counts(self, columns: Columns, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """What the cuts on objects did to each event, ``(n, 2 groups)``."""
        counts = [np.asarray(columns[name])[rows] for name in self._objects]
        return np.stack(counts, axis=1).astype(np.int32) if counts else np.zeros(
            (len(rows), 0), np.int32)  # fmt: skip

    def _sampled_weight(self, weight: NDArray[np.float64], label: int) -> NDArray[np.float64]:
        """The weight of training events whose composition is changed; the sign is kept."""
        dataset, counts = self.dataset, self.dataset.counts
        if counts and dataset.config.sampling.resample:
            weight = np.copysign(counts.reference, weight)
        factor: float = dataset.class_balance[label].factor
        return weight * factor

    def _transformed(self, columns: Columns, events: NDArray[np.int64]) -> Transformed:
        transform = self.dataset.transform
        try:
            return transform(columns)
        except InvalidValueError:
            dataset, fault = self.dataset, transform.faults(columns)[0]
            number, entry = events[fault.row].tolist()
            file = dataset.manifest.files[number]
            settles = advice_for(fault, dataset.config, dataset.layout, dataset.specs)
            raise error_of(fault, settles).at(file.url, file.tree, entry - fault.row) from None

    def _source(self, file: FileInfo) -> Source:
        """The reader of a file; samples that read the same branches share one.

        All readers together keep to the bounds of one.
        """
        dataset = self.dataset
        names = columns_read(dataset, file)
        if names not in self._sources:
            own = {
                (
                    sample.label if isinstance(sample.label, str) else None,
                    sample.weight.branch,
                    sample.selection,
                )
                for sample in dataset.config.samples
            }
            kept = dataset.config.reading
            self._sources[names] = Source(
                names,
                max_open=max(1, kept.open_files // len(own)),
                max_bytes=kept.cache_bytes // len(own),
                kept=self._kept,
            )
        return self._sources[names]


_WRITERS = itertools.count()
