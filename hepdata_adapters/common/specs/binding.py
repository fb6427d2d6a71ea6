"""The data that specs are bound to: files, split, selection, and how columns are prepared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
from hepdata_adapters.common.config.split_config import AnySplit
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.events.layout import Layout
from hepdata_adapters.common.events.split import SplitName, strategy
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.census import Census
from hepdata_adapters.common.specs.sparse import Sparse

StatisticsOf = Literal["events", "weights", "classes"]


class FileRecord(Sparse):
    """A file of the manifest the specs were made from.

    content: digest of what the tree holds. size, state: of this copy, for those who want to know
    what was read; see `Content`. units: boundaries of the entry ranges. counts: events of each
    split in each unit, those that pass the selection. dropped: events that each of the binding's
    drops leaves out; refused: those that each would leave out without the others. weighting: what
    weighs its events in the statistics, empty if they all weigh the same. target: label and weight
    of its events, which the census counts by. distinct: how many events tell apart by identity.
    missing: events with NaN or infinity by branch, those of all splits (see `specs.missing`).
    """

    optional = ("dropped", "refused", "weighting", "target", "census", "distinct", "missing")

    url: str
    tree: str
    uuid: str
    content: str
    size: int = Field(ge=0)
    state: str
    entries: int = Field(ge=0)
    units: tuple[int, ...]
    counts: dict[SplitName, tuple[int, ...]] = Field(default={})
    dropped: tuple[int, ...] = ()
    selection: str = ""
    refused: tuple[int, ...] = ()
    weighting: str = ""
    target: str = ""
    census: Census = Field(default={})
    distinct: int | None = Field(default=None, ge=0)
    missing: dict[str, int] = Field(default={})

    def counted_as(self, other: FileRecord) -> FileRecord:
        """This file with all that was counted in the other one, which is the same file."""
        counted = ("counts", "dropped", "refused", "target", "census", "distinct", "missing")
        return self.model_copy(update={name: getattr(other, name) for name in counted})

    @property
    def label(self) -> str | None:
        """The label branch that the census is by, or the number that stands for it."""
        return json.loads(self.target)[0] if self.target else None

    def key(self) -> tuple[str, str, int, tuple[int, ...]]:
        """What must agree; URL and state change when a file is moved or copied."""
        return (self.content, self.tree, self.entries, self.units)

    @property
    def place(self) -> tuple[str, str]:
        """What no two files with events of a dataset have in common."""
        return (self.content, self.tree)


class Binding(Sparse):
    """The data that specs belong to: files, split and the branches summarised.

    columns: expressions of derived columns. objects: cuts on and order of jagged groups. drops:
    events that the policies of features leave out. statistics: what weighs an event.
    """

    optional = ("columns", "objects", "drops", "statistics")

    files: tuple[FileRecord, ...]
    split: AnySplit
    identity: tuple[str, ...]
    branches: tuple[str, ...]
    columns: dict[str, str] = Field(default={})
    objects: dict[str, dict[str, Any]] = Field(default={})
    drops: tuple[str, ...] = ()
    statistics: StatisticsOf = "events"

    @classmethod
    def of(cls, config: DatasetConfig, manifest: Manifest, layout: Layout) -> Binding:
        """What specs of this data would belong to."""
        files = tuple(
            FileRecord(
                url=file.url,
                tree=file.tree,
                uuid=file.uuid,
                content=file.content.digest,
                size=file.content.size,
                state=file.content.state,
                entries=file.entries,
                units=tuple(file.units.tolist()),
                selection=config.samples[file.sample].selection or "",
                weighting=_weighting(config.statistics, config.samples[file.sample]),
                target=_target(config.samples[file.sample]),
            )
            for file in manifest.files
        )
        return cls(
            files=files,
            split=config.split,
            identity=layout.identity,
            branches=layout.statistics,
            columns=config.derived,
            objects={name: group.model_dump(mode="json") for name, group in config.objects.items()},
            drops=tuple(map(str, layout.drops)),
            statistics=config.statistics,
        )

    def hash(self) -> str:
        """SHA-256 over the contents, trees, entries and units, the split and the branches."""
        document: dict[str, Any] = {
            "files": [list(file.key()) for file in self.files],
            "split": self.split.model_dump(mode="json"),
            "identity": list(self.identity),
            "branches": list(self.branches),
        }
        splits = strategy(self.split).of_files(file.url for file in self.files)
        if splits is not None:  # only here does the name of a file matter
            document["splits"] = splits
        for name in ("selection", "weighting"):
            if any(getattr(file, name) for file in self.files):
                document[f"{name}s"] = [getattr(file, name) for file in self.files]
        written = self.model_dump(mode="json", include=set(self.optional))
        return digest(document | written)

    def same_targets(self, wanted: Binding) -> bool:
        """Whether the events were counted by these labels and weights."""
        return [file.target for file in self.files] == [file.target for file in wanted.files]

    def differences(self, wanted: Binding) -> list[str]:
        """What keeps these specs from being those of the wanted data, in words; the files first."""
        found = file_differences(self.files, wanted.files)
        if not found and [f.key() for f in self.files] != [f.key() for f in wanted.files]:
            found.append("the files are in another order")
        return found + self.other_differences(wanted)

    def other_differences(self, wanted: Binding) -> list[str]:
        """The differences of all but the files and the branches."""
        found = _split_differences(self, wanted)
        if not found and self.identity != wanted.identity:
            found.append(f"identity is {wanted.identity}, was {self.identity}")
        if self.statistics != wanted.statistics:
            found.append(f"the statistics are of {wanted.statistics}, were of {self.statistics}")
        for name in ("columns", "objects"):
            found += _entry_differences(name, getattr(self, name), getattr(wanted, name))
        if self.drops != wanted.drops:
            now, then = ", ".join(wanted.drops) or "none", ", ".join(self.drops) or "none"
            found.append(f"events left out are those with: {now}; were: {then}")
        return found


def file_differences(old: Sequence[FileRecord], new: Sequence[FileRecord]) -> list[str]:
    """Files that were added, are gone or have changed, in words; their order does not matter."""
    before = {file.place: file for file in old}
    after = {file.place: file for file in new}
    gone = {(f.url, f.tree): f for place, f in before.items() if place not in after}
    found: list[str] = []
    for place, file in after.items():
        if place in before:
            found += _changes(before[place], file)
        elif was := gone.pop((file.url, file.tree), None):
            found.append(_rewritten(was, file))
        else:
            found.append(f"{file.url} was added")
    return found + [f"{file.url} is gone" for file in gone.values()]


def _rewritten(old: FileRecord, new: FileRecord) -> str:
    if new.entries != old.entries:
        return f"{new.url} has {new.entries} entries, had {old.entries}"
    return f"{new.url} was written again, its content is another"


def _changes(old: FileRecord, new: FileRecord) -> Iterator[str]:
    if new.key() != old.key():
        yield f"{new.url} has other clusters"
    elif new.selection != old.selection:
        now, then = new.selection or "none", old.selection or "none"
        yield f"the selection in {new.url} is {now}, was {then}"
    elif new.weighting and old.weighting and new.weighting != old.weighting:
        yield f"events of {new.url} weigh by {new.weighting}, did by {old.weighting}"


def _entry_differences(name: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{name}.{key} is {new.get(key, 'gone')}, was {old.get(key, 'not there')}"


def _split_differences(old: Binding, new: Binding) -> list[str]:
    mine, theirs = old.split, new.split
    if mine.way != theirs.way:
        return [f"the split is by {theirs.way}, was by {mine.way}"]
    found = [
        f"split.{name} is {getattr(theirs, name)}, was {getattr(mine, name)}"
        for name in mine.model_dump()
        if getattr(mine, name) != getattr(theirs, name)
    ]
    before = strategy(mine).of_files(file.url for file in old.files)
    after = strategy(theirs).of_files(file.url for file in new.files)
    if found or before is None or after is None:
        return found
    then = {file.place: name for file, name in zip(old.files, before, strict=True)}
    return [
        f"{file.url} is in {now}, was in {was}"
        for file, now in zip(new.files, after, strict=True)
        if (was := then.get(file.place)) not in (None, now)
    ]


def _weighting(statistics: StatisticsOf, sample: Sample) -> str:
    """What weighs the events of a sample, as text; empty where each counts once."""
    if statistics == "weights":
        return json.dumps(sample.weight.model_dump(mode="json", exclude_none=True))
    return f"label {sample.label}" if statistics == "classes" else ""


def _target(sample: Sample) -> str:
    """What the census of a sample's events is by."""
    label = sample.label if isinstance(sample.label, str | None) else f"{sample.label:g}"
    return json.dumps([label, sample.weight.branch])
