"""Merging: statistics of classes into those of a dataset, and specs of files into specs of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

from hepdata_adapters.common.core.errors import DataError, SpecsError
from hepdata_adapters.common.specs.binding import Binding
from hepdata_adapters.common.specs.identities import Seen, of_files
from hepdata_adapters.common.specs.model import ClassStatistics, Sampled, Specs
from hepdata_adapters.common.specs.separation import Shapes, merged_shapes
from hepdata_adapters.common.specs.statistics import BranchStatistics

ALL = ""  # the class of all events, where the statistics are not those of classes


def merge_specs(parts: Sequence[Specs]) -> Specs:
    """The specs of all files of the parts, in the order given; the same as one pass over them.

    Counts, minimum and maximum are exact, moments to rounding, quantiles to sketch accuracy.
    Raises SpecsError where a file is in two of the parts, or where they differ in the split, the
    identity, the branches or what weighs an event.
    """
    if not parts:
        raise SpecsError("there are no specs to merge")
    return reduce(_pair, parts)


def combined(
    binding: Binding,
    classes: Mapping[str, ClassStatistics],
    sampled: Sampled | None,
    seen: Iterable[Seen] = (),
    shapes: Shapes | None = None,
) -> Specs:
    """Specs of a pass. classes: statistics by label, or those of all events under `ALL`."""
    if binding.statistics == "classes":
        ordered = {label: classes[label] for label in sorted(classes, key=int)}
        branches = balanced(ordered)
    else:
        ordered = {}
        branches = dict(classes[ALL].branches) if ALL in classes else {}
    numbers = {number: number for number in range(len(binding.files))}
    return Specs(
        hash=binding.hash(),
        binding=binding,
        branches=branches,
        classes=ordered,
        sampled=sampled,
        identities=of_files(seen, numbers, sum(file.entries for file in binding.files)),
        shapes=shapes or {},
    )


def merged_classes(
    one: Mapping[str, ClassStatistics],
    other: Mapping[str, ClassStatistics],
    file: str | None = None,
) -> dict[str, ClassStatistics]:
    """The statistics of each class in both; errors name ``file``."""
    merged = dict(one)
    for label, statistics in other.items():
        merged[label] = merged[label].merge(statistics, file) if label in merged else statistics
    return merged


def balanced(classes: Mapping[str, ClassStatistics]) -> dict[str, BranchStatistics]:
    """The statistics of all events where each class has the same total weight.

    An event of class c weighs ``N / (C N_c)``: N events, N_c of them in c, C classes with events.
    """
    present = [found for found in classes.values() if found.events]
    total = sum(found.events for found in present)
    whole = ClassStatistics()
    for found in present:
        factor = total / (len(present) * found.events)
        scaled = {name: known.scaled(factor) for name, known in found.branches.items()}
        whole = whole.merge(ClassStatistics(events=found.events, branches=scaled))
    return whole.branches


def _pair(one: Specs, other: Specs) -> Specs:
    first, second = one.binding, other.binding
    differences = first.other_differences(second)
    if first.branches != second.branches:
        unlike = sorted(set(first.branches) ^ set(second.branches))
        differences.append(f"only one has {', '.join(unlike[:5])}" if unlike else "the order of "
                           "the branches is another")  # fmt: skip
    ways = [(s.sampled.fraction, s.sampled.seed) if s.sampled else None for s in (one, other)]
    if ways[0] != ways[1]:
        shown = ["all" if way is None else f"fraction {way[0]:g}, seed {way[1]}" for way in ways]
        differences.append(f"the statistics are of another part of the data: {' and '.join(shown)}")
    if differences:
        raise SpecsError(f"specs do not merge: {'; '.join(differences[:6])}")
    known = {file.place: file for file in first.files}
    for file in second.files:
        if file.place in known:
            raise SpecsError(
                f"specs do not merge: {file.url}:{file.tree} is in both (as "
                f"{known[file.place].url} before)"
            )
        if "cross_section" in file.weighting:
            raise SpecsError(
                f"specs do not merge: the weights of {file.url} are normalised to a cross "
                f"section, over all files of the sample: make a new pass"
            )
    binding = first.model_copy(update={"files": first.files + second.files})
    try:
        classes = merged_classes(_classes(one), _classes(other))
    except DataError as error:
        raise SpecsError(f"specs do not merge: {error}") from None
    shift = len(first.files)
    seen = [*one.identities, *(s._replace(file=s.file + shift) for s in other.identities)]
    sampled = _sampled(one.sampled, other.sampled)
    return combined(binding, classes, sampled, seen, merged_shapes(one.shapes, other.shapes))


def _classes(specs: Specs) -> Mapping[str, ClassStatistics]:
    if specs.classes:
        return specs.classes
    if specs.binding.statistics == "classes":  # no training event in these files
        return {}
    events = specs.sampled.events if specs.sampled else specs.events("train")
    return {ALL: ClassStatistics(events=events, branches=specs.branches)}


def _sampled(one: Sampled | None, other: Sampled | None) -> Sampled | None:
    if one is None or other is None:
        return None
    return one.model_copy(
        update={
            "units": one.units + other.units,
            "of": one.of + other.of,
            "events": one.events + other.events,
        }
    )
