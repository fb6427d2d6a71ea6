"""Chunks: the events of a plan's chunk read, transformed, and put into the order of delivery."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import (
    Columns,
    concatenate_all,
    sliced_all,
    take_all,
)
from hepdata_adapters.common.core.errors import DataError, InvalidValueError
from hepdata_adapters.common.core.faults import Fault, error_of
from hepdata_adapters.common.core.tally import Tally
from hepdata_adapters.common.events.class_counts import copies_of
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.events.unit_events import UnitEvents, read_unit
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.plan.plan import Chunk, Plan, UnitRange
from hepdata_adapters.common.stream.dataset import Dataset, label_dtype
from hepdata_adapters.common.stream.kept_units import columns_read, kept_units
from hepdata_adapters.common.stream.memory import buffer_of
from hepdata_adapters.common.transform.advice import advice_for
from hepdata_adapters.common.transform.output import Line
from hepdata_adapters.common.transform.vector_rows import VectorWriter

Rows = NDArray[np.int64]
MOST_MEMBERS = 32  # units: a chunk takes a part of each that is in use


@dataclass(frozen=True, eq=False)
class LoadedChunk:
    """The n events of a chunk in memory, in the order of delivery.

    columns: the arrays of batches, all rows of them. lines: ``(U,)``, the ledger lines (of
    `ChunkLoader.counted`) that an event adds to. counts: ``(U, n)`` int32, what it adds.
    """

    columns: Columns
    lines: NDArray[np.int64]
    counts: NDArray[np.int32]

    def rows(self, first: int, last: int, tally: Tally) -> Columns:
        """Events ``first`` to ``last``, views of the arrays; the tally gets their counts."""
        tally.add(self.lines, self.counts[:, first:last])
        return sliced_all(self.columns, first, last)


class ChunkLoader:
    """Reads chunks of a split in one process, one at a time; its files stay open between them.

    processes: that share the work and the memory. reading: told the file (its number), first and
    last entry of each unit before it is read.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: SplitName | None,
        threads: int,
        processes: int,
        reading: Callable[[int, int, int], None],
    ) -> None:
        self._processes, self._unit_bytes = processes, dataset.unit_bytes // processes
        self._dataset, self._split, self._threads = dataset, split, threads
        self._reading = reading
        vector = dataset.transform.vector
        self._writer = VectorWriter(vector) if vector else None
        self._members: dict[tuple[int, int], Rows] = {}  # of file and unit: those that count
        self._sources: dict[tuple[str, ...], Source] = {}
        self._by_file: dict[tuple[str, str], Source] = {}

    def close(self) -> None:
        """Close all files."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        self._by_file.clear()

    def check(self) -> None:
        """Raise ReplacedError if a file in use is not what it was."""
        for source in self._sources.values():
            source.check()

    @property
    def counted(self) -> tuple[Line, ...]:
        """The ledger lines that events may add to."""
        transform = self._dataset.transform
        return (*transform.counted, *transform.objects_counted.values())

    def load(self, plan: Plan, chunk: Chunk) -> LoadedChunk:
        """The events of a chunk. Raises the errors of reading, and those of forbidden values."""
        part: UnitRange | None = None
        try:
            rows = _ChunkRows(self._dataset, self._writer, plan.order(chunk), self._threads)
            for part in plan.parts(chunk):
                self._write(part, rows)
            return rows.loaded()
        except MemoryError as error:
            raise self._out_of_memory(part) from error

    def _write(self, part: UnitRange, to: _ChunkRows) -> None:
        """The events of a unit range into the rows that come next."""
        unit = self._events(part.file, part.unit)
        events = self._delivered(unit, part)
        weights = events.weights
        if part.label is not None:
            weights = self._sampled_weight(weights, part.label)
        to.write(events, weights, part.file)
        if part.label is None and part.last == len(unit.rows):
            file = unit.unit.file
            self._source(file).used_up(file, part.unit)

    def _events(self, number: int, unit: int) -> UnitEvents:
        """The events of a unit of a file that are selected and belong to the split."""
        dataset = self._dataset
        file = dataset.manifest.files[number]
        self._reading(number, int(file.units[unit]), int(file.units[unit + 1]))
        read = read_unit(self._source(file), file, unit, keep=True)
        dtype = label_dtype(dataset)
        events = UnitEvents(
            read, dataset.config, dataset.layout, dtype, self._members.get((number, unit))
        )
        if events.index is None:
            events = events.of(self._split)
            self._members[number, unit] = events.rows
            if len(self._members) > MOST_MEMBERS:
                del self._members[next(iter(self._members))]
        return events

    def _delivered(self, events: UnitEvents, part: UnitRange) -> UnitEvents:
        """The events of a part: of one class, and each as often as it is drawn, if so wanted."""
        sampling, counts = self._dataset.config.sampling, self._dataset.counts
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

    def _sampled_weight(self, weight: NDArray[np.float64], label: int) -> NDArray[np.float64]:
        """The weight of training events whose composition is changed; the sign is kept."""
        dataset, counts = self._dataset, self._dataset.counts
        if counts and dataset.config.sampling.resample:
            weight = np.copysign(counts.reference, weight)
        factor: float = dataset.class_balance[label].factor
        return weight * factor

    def _out_of_memory(self, part: UnitRange | None) -> DataError:
        """The error for a chunk that the memory does not hold, with the part that it came to."""
        dataset = self._dataset
        buffer = buffer_of(dataset.transform, dataset.config.sampling, dataset.specs)
        if part is None:
            return DataError(f"the memory ran out: {buffer}")
        file = dataset.manifest.files[part.file]
        units = file.units[part.unit : part.unit + 2].tolist()
        return DataError(
            f"the memory ran out: {buffer}",
            file=file.url, tree=file.tree, entries=(units[0], units[1]),
        )  # fmt: skip

    def _source(self, file: FileInfo) -> Source:
        """The reader of a file; samples that read the same branches share one.

        All readers together keep to the bounds of one.
        """
        place = file.url, file.tree
        if place not in self._by_file:
            dataset = self._dataset
            names = columns_read(dataset, file)
            own = {
                (
                    sample.label if isinstance(sample.label, str) else None,
                    sample.weight.branch,
                    sample.selection,
                )
                for sample in dataset.config.samples
            }
            if names not in self._sources:
                self._sources[names] = Source(
                    names,
                    max_open=max(1, dataset.config.reading.open_files // len(own)),
                    max_bytes=self._unit_bytes // len(own),
                    threads=self._threads,
                    kept=kept_units(dataset, self._processes),
                )
            self._by_file[place] = self._sources[names]
        return self._by_file[place]


class _ChunkRows:
    """The arrays of a chunk while they are filled, part by part.

    order: `Plan.order`: delivered row i is event ``order[i]`` of the parts.
    """

    def __init__(
        self, dataset: Dataset, writer: VectorWriter | None, order: Rows, threads: int
    ) -> None:
        self._dataset, self._order, self._threads = dataset, order, threads
        n, transform = len(order), dataset.transform
        self._places = np.empty(n, np.int64)
        self._places[order] = np.arange(n)
        self._done = 0
        self._columns: Columns = {
            "event": np.empty((n, 2), np.int64), "weight": np.empty(n, np.float64),
        }  # fmt: skip
        if dataset.layout.task:
            self._columns["label"] = np.empty(n, label_dtype(dataset))
        self._objects = np.empty((len(transform.objects_counted), n), np.int32)
        self._writer = writer
        self._vectors = writer.empty(n) if writer else None
        used = (made.branches for made in transform.inputs.values())
        self._input_columns = tuple(dict.fromkeys(itertools.chain.from_iterable(used)))
        self._inputs: list[Columns] = []

    def write(self, events: UnitEvents, weights: NDArray[np.float64], number: int) -> None:
        """The events of a part; number: of their file in the manifest."""
        columns, rows = events.unit.columns, events.rows
        places = self._places[self._done : self._done + len(rows)]
        self._done += len(rows)
        for name, values in (("event", events.identity(number)), ("weight", weights)):
            np.asarray(self._columns[name])[places] = values
        if self._dataset.layout.task:
            np.asarray(self._columns["label"])[places] = events.labels
        for line, name in zip(self._objects, self._dataset.transform.objects_counted, strict=True):
            line[places] = np.asarray(columns[name])[rows]
        if self._writer and self._vectors:
            vector = self._writer.transform
            if not self._writer.write(columns, rows, places, self._vectors, self._threads):
                taken = {feature.branch: columns[feature.branch] for feature in vector.features}
                self._refuse(vector.faults(take_all(taken, rows)), events.identity(number))
        if self._input_columns:
            taken = {name: columns[name] for name in self._input_columns}
            self._inputs.append(take_all(taken, rows))

    def loaded(self) -> LoadedChunk:
        """The chunk, when all parts are written."""
        transform, columns = self._dataset.transform, self._columns
        counts: list[NDArray[np.int32]] = []
        if made := self._vectors:
            columns |= {"x": made.x, "mask": made.mask, "lengths": made.lengths}
            counts.append(made.counts)
        if self._input_columns:
            merged = concatenate_all(self._inputs)
            ordered = take_all(merged, self._order)
            for name, representation in transform.inputs.items():
                try:
                    output = representation(ordered)
                except InvalidValueError:
                    events = np.asarray(columns["event"])[self._places]
                    self._refuse(representation.faults(merged), events)
                columns |= {name + suffix: values for suffix, values in output.arrays.items()}
                counts.append(output.counts.T)
        lines = [line for part in (*counts, self._objects) for line in part]
        used = [number for number, line in enumerate(lines) if line.any()]  # most stay empty
        found = np.array([lines[number] for number in used], np.int32)
        return LoadedChunk(
            columns, np.array(used, np.int64), found.reshape(len(used), len(self._order))
        )

    def _refuse(self, faults: Sequence[Fault], events: Rows) -> NoReturn:
        """Raise for the first of the faults. events: ``(n, 2)``, file and entry of their rows."""
        dataset, fault = self._dataset, faults[0]
        number, entry = events[fault.row].tolist()
        file = dataset.manifest.files[number]
        settles = advice_for(fault, dataset.config, dataset.layout, dataset.specs)
        raise error_of(fault, settles).at(file.url, file.tree, entry - fault.row) from None
