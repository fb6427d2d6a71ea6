"""Events that share their identity, in one file and between files, from a sample of bounded size.

An identity is in the sample if its hash is small: the same identity is in or out wherever it is
met, so that samples of different files, processes and specs show what they have in common. How
small depends on the number of entries of all files alone. Of each file the smallest hashes are
kept as well while it is read: their number, or the largest of them, says how many different
identities it has (Bar-Yossef 2002), however often each comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.hashing import hash_integers, key

SAMPLE = 1024
"""Identities in the sample, at most and on average; all of them where there are no more."""
SMALLEST = 256
"""Hashes that tell how many different ones a file has: exactly below, to 6 % above."""
READ_OF_EACH = 256
"""Events of one identity in a unit whose values are read: there may be thousands."""
UNKNOWN = 0
"""The fingerprint of an event whose values were not read."""


class Seen(NamedTuple):
    """Events of one identity in one file and split.

    hash: of the identity. file: its number. code: of the split. events: how many of them have
    the values of ``fingerprint``.
    """

    hash: int
    file: int
    code: int
    fingerprint: int
    events: int


class Identities(BaseModel):
    """The identities in a stretch of one file; what is `Seen` has file number 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: tuple[int, ...] = ()
    seen: tuple[Seen, ...] = ()

    def joined(self, other: Identities) -> Identities:
        """Those of two stretches of the same file."""
        smallest = sorted({*self.smallest, *other.smallest})[:SMALLEST]
        return Identities(smallest=tuple(smallest), seen=summed([*self.seen, *other.seen]))

    @property
    def distinct(self) -> int:
        """How many different identities there are: exact below `SMALLEST`, else an estimate."""
        if len(self.smallest) < SMALLEST:
            return len(self.smallest)
        return round((SMALLEST - 1) / (self.smallest[-1] * 2.0**-64))


def sample_limit(entries: int) -> int:
    """The hashes that are in the sample of so many entries are below this.

    A power of two, so that what is in a sample of many entries is in one of few.
    """
    level = 0
    while entries > SAMPLE << level:
        level += 1
    return 1 << (64 - level)


def identities_of(
    identity: Sequence[str],
    columns: Mapping[str, Column],
    rows: NDArray[np.int64],
    codes: NDArray[np.int64],
    limit: int,
    values: Iterable[str],
) -> Identities:
    """The identities of the events ``rows``, whose split ``codes`` says, ``(n,)`` of all events.

    values: the columns whose values tell whether events of one identity are the same; none where
    these are not read.
    """
    numbers = [np.asarray(columns[name])[rows] for name in identity]
    hashed = hash_integers(numbers, key("identity"))
    smallest = np.unique(hashed)[:SMALLEST]
    chosen = np.flatnonzero(hashed <= np.uint64(limit - 1))
    names = list(values)
    read: dict[int, int] = {}
    seen = []
    for number, row in zip(hashed[chosen].tolist(), rows[chosen].tolist(), strict=True):
        read[number] = read.get(number, 0) + 1
        values_hash = fingerprint(columns, names if read[number] <= READ_OF_EACH else (), row)
        seen.append(Seen(number, 0, int(codes[row]), values_hash, 1))
    return Identities(smallest=tuple(smallest.tolist()), seen=summed(seen))


def fingerprint(columns: Mapping[str, Column], names: Sequence[str], row: int) -> int:
    """A hash of all values of an event, 1 to 2^32; `UNKNOWN` where there are none."""
    if not names:
        return UNKNOWN
    digest = hashlib.blake2b(digest_size=4)
    for name in names:
        column = columns[name]
        if isinstance(column, Jagged):
            first, last = column.offsets[row], column.offsets[row + 1]
            digest.update(f"{last - first}:".encode() + column.content[first:last].tobytes())
        else:
            digest.update(column[row].tobytes())
    return int.from_bytes(digest.digest(), "little") + 1


def summed(seen: Iterable[Seen]) -> tuple[Seen, ...]:
    """Sorted, the events of one identity, file, split and fingerprint together."""
    found: dict[tuple[int, int, int, int], int] = {}
    for one in seen:
        found[one[:4]] = found.get(one[:4], 0) + one.events
    return tuple(Seen(*place, found[place]) for place in sorted(found))


def of_files(seen: Iterable[Seen], numbers: Mapping[int, int], entries: int) -> tuple[Seen, ...]:
    """With other file numbers, and what is in the sample of ``entries`` only."""
    limit = sample_limit(entries)
    return summed(
        one._replace(file=numbers[one.file])
        for one in seen
        if one.hash < limit and one.file in numbers
    )


class Repeats(NamedTuple):
    """How many events share their identity, of ``events`` in the sample.

    within: with another event of the same file. between: by the numbers of two files, those of
    the second whose identity is in the first. leaked: test or validation events whose identity
    is in training. Each as (with the same values, all).
    """

    events: int
    within: dict[int, tuple[int, int]]
    between: dict[tuple[int, int], tuple[int, int]]
    leaked: tuple[int, int]


def repeats(seen: Iterable[Seen]) -> Repeats:
    """What a sample says of events that share their identity."""
    by_hash: dict[int, list[Seen]] = {}
    for one in seen:
        by_hash.setdefault(one.hash, []).append(one)
    events = 0
    within: dict[int, tuple[int, int]] = {}
    between: dict[tuple[int, int], tuple[int, int]] = {}
    leaked = (0, 0)
    for found in by_hash.values():
        events += sum(one.events for one in found)
        files = sorted({one.file for one in found})
        for file in files:
            own = [one for one in found if one.file == file]
            same = sum(one.events - 1 for one in own if one.fingerprint != UNKNOWN)
            every = sum(one.events for one in own) - 1
            if every:
                within[file] = _plus(within.get(file, (0, 0)), (same, every))
        for number, first in enumerate(files):
            for second in files[number + 1 :]:
                pair = between.get((first, second), (0, 0))
                between[first, second] = _plus(pair, _shared(found, first, second))
        trained = [one for one in found if one.code == 0]
        if trained:
            for one in found:
                if one.code > 0:
                    same = any(_alike(one, other) for other in trained)
                    leaked = _plus(leaked, (one.events * same, one.events))
    return Repeats(events, within, between, leaked)


def _shared(found: Sequence[Seen], first: int, second: int) -> tuple[int, int]:
    ours = [one for one in found if one.file == first]
    theirs = [one for one in found if one.file == second]
    same = sum(one.events for one in theirs if any(_alike(one, other) for other in ours))
    return same, sum(one.events for one in theirs)


def _alike(one: Seen, other: Seen) -> bool:
    """Whether two events of one identity have the same values, as far as these are known."""
    return one.fingerprint == other.fingerprint and one.fingerprint != UNKNOWN


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
