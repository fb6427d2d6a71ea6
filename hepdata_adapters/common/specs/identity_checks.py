"""Events that have the same identity: whether it tells events apart, and what repeats do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.split_config import Split
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.core.ledger import LedgerKind
from hepdata_adapters.common.events.split import IDENTITY, SPLITS, strategy
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.identities import repeats, sample_limit
from hepdata_adapters.common.specs.model import Specs

TOO_FEW = 100
"""Identities that share out events: below, the fractions of a split are chance (5 % and more)."""
PER_IDENTITY = 10
FEWEST_EVENTS = 20
NUMBERED_ANEW = 0.01
"""The share of events with an identity that others have, above which numbers begin anew."""
_HASHES = 1 << 64

Counted = tuple[LedgerKind, dict[str, int], str]


def check_identity(split: Split, specs: Specs) -> None:
    """Raise DataError where the identity that was found cannot split the events.

    Where the config lists the branches of the identity, it means what it says: rows of one event
    are then to stay together, however few events there are.
    """
    if strategy(split).identity != "auto":
        return
    names = ", ".join(specs.binding.identity)
    for number, file in enumerate(specs.binding.files):
        if file.distinct is not None:
            events = int(specs.counts(number, None).sum())
            if _too_few(file.distinct, events):
                raise _cannot_split(file.distinct, events, names, specs, file.url, file.tree)
    if specs.identities:
        limit = sample_limit(sum(file.entries for file in specs.binding.files))
        found = len({one.hash for one in specs.identities}) * (_HASHES // limit)
        if _too_few(found, specs.events()):
            raise _cannot_split(found, specs.events(), names, specs, None, None)


def _too_few(distinct: int, events: int) -> bool:
    return events >= FEWEST_EVENTS and distinct < TOO_FEW and distinct * PER_IDENTITY <= events


def _cannot_split(
    distinct: int, events: int, names: str, specs: Specs, file: str | None, tree: str | None
) -> DataError:
    shares = ", ".join(f"{name} {specs.events(name):,}" for name in SPLITS)
    listed = ", ".join(IDENTITY)
    only = "one identity" if distinct == 1 else f"only {distinct:,} different identities"
    text = (
        f"{events:,} events have {only} ({names}), so they cannot be split by it ({shares}). "
        f"Where it was never filled, split by file and entry number: split: {{identity: entry}} "
        f"(in Python split_by={{'identity': 'entry'}}). Where many rows of one event are to stay "
        f"together: split: {{identity: [{listed}]}}"
    )
    return DataError(text, file=file, tree=tree) if file else DataError(text)


def identity_notes(config: DatasetConfig, manifest: Manifest, specs: Specs) -> Iterator[Counted]:
    """What the sample of identities says of repeats; see `Note` for the parts."""
    if not specs.identities:
        return
    entries = sum(file.entries for file in specs.binding.files)
    whole = sample_limit(entries) == _HASHES
    found = repeats(specs.identities)
    scale = 1.0 if whole else specs.events() / max(found.events, 1)
    about = "" if whole else "about "
    by_hash = strategy(config.split).identity is not None
    names = [config.samples[file.sample].name for file in manifest.files]
    urls = [file.url for file in manifest.files]

    same = {urls[file]: round(pair[0] * scale) for file, pair in found.within.items() if pair[0]}
    if same:
        yield (
            "events that come more than once in a file", same,
            f"{about}{sum(same.values()):,} event(s) come again in the same file, with the same "
            f"identity and the same values ({_most(same)}): they count more than once",
        )  # fmt: skip
    other = {
        urls[file]: round((pair[1] - pair[0]) * scale)
        for file, pair in found.within.items()
        if pair[1] > pair[0]
    }
    if other:
        yield (
            "events with the identity of others in a file", other,
            f"{about}{sum(other.values()):,} of {specs.events():,} events have the identity of "
            f"another event of the same file, with other values or values not compared "
            f"({_most(other)}): rows of one "
            f"event, or numbers that begin anew" + (
                ", which fall into the same split together; if they are different events, "
                "split: {identity: entry} (in Python split_by={'identity': 'entry'}) tells them "
                "apart" if by_hash else ""),
        )  # fmt: skip
    yield from _between_samples(found.between, names, scale, about, specs, by_hash)
    if not by_hash and found.leaked[1]:
        copies, every = (round(count * scale) for count in found.leaked)
        yield (
            "validation and test events that are in training", {"": every},
            f"{about}{every:,} validation or test event(s) have the identity of a training event, "
            f"{copies:,} of them with the same values: what is measured on them the model has "
            f"seen. Take them out, or split by fractions, which keeps one identity in one split",
        )  # fmt: skip


def _between_samples(
    between: dict[tuple[int, int], tuple[int, int]],
    names: list[str],
    scale: float,
    about: str,
    specs: Specs,
    by_hash: bool,
) -> Iterator[Counted]:
    same: Counter[str] = Counter()
    anew: Counter[str] = Counter()
    for (first, second), (copies, every) in between.items():
        one, two = names[first], names[second]
        files = specs.binding.files
        pair = (
            f"{two} and {one}" if first != second and one != two
            else f"{files[second].url} and {files[first].url}"
        )  # fmt: skip
        same[pair] += copies
        if one == two:  # samples of different processes have the same numbers by custom
            anew[one] += every - copies
    counts = {pair: round(count * scale) for pair, count in same.items() if count}
    if counts:
        harm = (
            "both copies are in the same split, so that nothing leaks from training into test, but "
            "each counts" if by_hash else "where they are in different splits, test is no test; "
            "and each counts"
        )  # fmt: skip
        yield (
            "events that are in two files", counts,
            f"{about}{sum(counts.values()):,} event(s) are in two files, with the same identity "
            f"and the same values ({_most(counts)}): {harm} twice. Leave out one of the files, or "
            f"the events with a selection",
        )  # fmt: skip
    counts = {
        name: round(count * scale)
        for name, count in anew.items()
        if count * scale > NUMBERED_ANEW * specs.events()
    }
    if counts:
        yield (
            "events with the identity of others in another file", counts,
            f"{about}{sum(counts.values()):,} of {specs.events():,} events have the identity of an "
            f"event of another file of their sample, with other values ({_most(counts)}): does the "
            f"event number begin anew in each file?" + (
                " They fall into the same split together; split: {identity: entry} (in Python "
                "split_by={'identity': 'entry'}) tells them apart" if by_hash else ""),
        )  # fmt: skip


def _most(counts: dict[str, int], shown: int = 2) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{place} {count:,}" for place, count in ordered[:shown])
    return listed + (f", {len(ordered) - shown} more" if len(ordered) > shown else "")
