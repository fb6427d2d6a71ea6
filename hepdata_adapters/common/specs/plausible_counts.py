"""Whether the numbers of specs can be those of any data: a checksum says who wrote them last.

A count that is too low would leave out events, one that is too high would ask for events that are
not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from hepdata_adapters.common.events.split import SPLITS
from hepdata_adapters.common.specs.binding import FileRecord
from hepdata_adapters.common.specs.class_statistics import ClassStatistics
from hepdata_adapters.common.specs.statistics import BranchStatistics

MOST_ENTRIES = 2**62


def impossible_files(files: Sequence[FileRecord], drops: int) -> Iterator[str]:
    """What is wrong with the counts of the files, a phrase each. drops: reasons to leave out."""
    faults = [fault for file in files for fault in _of_file(file, drops)]
    if not faults and sum(file.entries for file in files) > MOST_ENTRIES:
        faults = ["the files have more entries than can be counted"]
    yield from faults


def impossible_counts(
    branches: Mapping[str, BranchStatistics], classes: Mapping[str, ClassStatistics], training: int
) -> Iterator[str]:
    """What is wrong with the statistics of so many training events, a phrase each."""
    for name, statistics in branches.items():
        yield from (f"branch {name!r}: {fault}" for fault in _of_branch(statistics, training))
    for label, of_class in classes.items():
        if of_class.events > training:
            yield f"class {label}: {of_class.events} of {training} training events"
        for name, statistics in of_class.branches.items():
            for fault in _of_branch(statistics, of_class.events):
                yield f"class {label}, branch {name!r}: {fault}"


def _of_file(file: FileRecord, drops: int) -> Iterator[str]:
    place = f"{file.url}:{file.tree}"
    units = file.units
    rising = all(low < high for low, high in pairwise(units))
    if file.entries > MOST_ENTRIES or units[:1] != (0,) or units[-1] != file.entries or not rising:
        yield f"{place}: the units do not cut its {str(file.entries)[:20]} entries into ranges"
        return
    if file.counts.keys() != set(SPLITS) or any(
        len(counts) != len(units) - 1 for counts in file.counts.values()
    ):
        yield f"{place}: there is not one count for each split and unit"
        return
    if len(file.dropped) != drops or len(file.refused) not in (0, drops):
        yield f"{place}: there is not one count for each reason to leave events out"
    numbers = [count for counts in file.counts.values() for count in counts]
    numbers += [*file.dropped, *file.refused, *file.missing.values()]
    if any(not 0 <= number <= file.entries for number in numbers):
        yield f"{place}: a count is below 0 or above its {file.entries:,} entries"
        return
    for number, (first, stop) in enumerate(pairwise(units)):
        events = sum(file.counts[split][number] for split in SPLITS)
        if events > stop - first:
            yield f"{place}: {events:,} events in the {stop - first:,} entries from {first} on"
    kept = sum(map(sum, file.counts.values()))
    if kept + sum(file.dropped) > file.entries:
        yield f"{place}: more events are kept and left out than its {file.entries:,} entries"
    for split in SPLITS:
        counted = sum(splits[split].events for splits in file.census.values() if split in splits)
        if counted > sum(file.counts[split]):
            yield f"{place}: the classes have more {split} events than there are"


def _of_branch(found: BranchStatistics, events: int) -> Iterator[str]:
    values = found.count + found.nan + found.positive_infinity + found.negative_infinity
    if found.lengths is None:
        if values > events * found.size:
            yield f"{str(values)[:20]} values in {events:,} training events"
    else:
        counts = found.lengths.counts
        if any(length < 0 or number < 0 for length, number in counts.items()):
            yield "a length or the number of its events is below 0"
        elif found.lengths.events > events:
            yield f"lengths of {str(found.lengths.events)[:20]} of {events:,} training events"
        elif sum(length * number for length, number in counts.items()) != values:
            yield "the lengths do not add up to the number of values"
    low, high = found.minimum, found.maximum
    if (low is None) != (found.count == 0) or (high is None) != (low is None):
        yield "there is a range without values, or the other way round"
    elif low is not None and high is not None:
        beyond = (isinstance(edge, int) and abs(edge) >= 2**64 for edge in (low, high))
        if low > high or any(beyond):
            yield "the minimum and the maximum are no range of its values"
