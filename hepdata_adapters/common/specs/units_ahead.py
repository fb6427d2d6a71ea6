"""The units of the parts of a pass, the next one read while this one is summarised.

One thread reads, with helpers of its own: files are opened in order, and a handle has one user.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Generic, NamedTuple, TypeVar, cast

from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.events.unit_events import Unit, read_unit
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.specs.parts import Part

SECONDS_TO_END = 2.0  # for the thread, after an error or an interrupt; then it is left alone

T = TypeVar("T")


class PartUnit(NamedTuple):
    """A unit of a part as it was read, ``number`` of its file."""

    part: Part
    number: int
    unit: Unit

    @property
    def chosen(self) -> bool:
        """Whether its values count, or only its events."""
        return bool(self.part.chosen[self.number - self.part.first])

    @property
    def last(self) -> bool:
        """Whether it is the last one of its part."""
        return self.number == self.part.stop - 1


def units_of(parts: Iterable[Part], threads: int = 1) -> Generator[PartUnit, None, None]:
    """All units of the parts in order. Raises the errors of reading, and DataError without memory.

    A file stays open for all its parts that follow each other. threads: that decompress.
    """
    for _, of_file in groupby(parts, key=lambda part: part.number):
        first = next(of_file)
        with (
            Source(first.summarised, threads=threads) as full,
            Source(first.counting, threads=threads) as few,
        ):
            for part in chain((first,), of_file):
                for number in range(part.first, part.stop):
                    source = full if part.chosen[number - part.first] else few
                    # a file of which nothing is needed is not opened
                    with memory_of(part, number):
                        unit = read_unit(source if source.branches else None, part.file, number)
                    yield PartUnit(part, number, unit)
                    del unit  # before the next one is read


@contextmanager
def memory_of(part: Part, number: int) -> Iterator[None]:
    """Name the entries that did not fit into the memory."""
    try:
        yield
    except MemoryError as error:
        first, stop = part.file.units[[number, number + 1]].tolist()
        raise DataError(
            "the memory ran out while these entries were summarised: exclude the longest branches, "
            "use fewer processes, or leave such events out with a selection",
            file=part.file.url, tree=part.file.tree, entries=(first, stop),
        ) from error  # fmt: skip


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The items of a generator that runs in a thread: the next one is made while one is used.

    There are never more than these two. An error comes where its item would have come. Where the
    consumer stops early, the generator is closed; one that is stuck in a read of a remote file
    keeps nobody from leaving.

    >>> list(ahead(iter([3, 1, 2])))
    [3, 1, 2]
    """
    made: queue.SimpleQueue[_Made[T]] = queue.SimpleQueue()
    wanted, ended = threading.Semaphore(1), threading.Event()

    def work() -> None:
        try:
            while wanted.acquire() and not ended.is_set():
                made.put(_next(items))
        except BaseException as error:  # it is raised where the item is taken
            made.put(_Made(error=error))
        finally:
            if close := getattr(items, "close", None):
                close()

    thread = threading.Thread(target=work, name="reading", daemon=True)
    thread.start()
    try:
        while (one := made.get()).there:
            wanted.release()
            yield cast("T", one.item)
        if one.error is not None:
            raise one.error
    finally:
        ended.set()
        wanted.release()
        thread.join(SECONDS_TO_END)


@dataclass(frozen=True)
class _Made(Generic[T]):
    """What the thread hands over: an item, an error, or the end."""

    item: T | None = None
    there: bool = False
    error: BaseException | None = None


def _next(items: Iterator[T]) -> _Made[T]:
    for item in items:
        return _Made(item, there=True)
    return _Made()
