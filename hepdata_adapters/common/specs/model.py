"""Specs: what one pass over the data learnt, and the data it is bound to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hepdata_adapters.common.config import Split
from hepdata_adapters.common.errors import SpecsError
from hepdata_adapters.common.hashing import digest
from hepdata_adapters.common.manifest import Manifest
from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.split import SPLITS, SplitName, split_of_file


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Model):
    """A file of the manifest the specs were made from.

    units: boundaries of the entry ranges. counts: events of each split in each unit, those that
    pass the selection.
    """

    url: str
    tree: str
    uuid: str
    entries: int = Field(ge=0)
    units: tuple[int, ...]
    counts: dict[SplitName, tuple[int, ...]] = {}
    selection: str = ""

    def key(self) -> tuple[str, str, int, tuple[int, ...]]:
        """What must agree; the URL may change when a file is moved."""
        return (self.uuid, self.tree, self.entries, self.units)


class Binding(_Model):
    """The data that specs belong to: files, split and the branches summarised."""

    files: tuple[FileRecord, ...]
    split: Split
    identity: tuple[str, ...]
    branches: tuple[str, ...]

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        split: Split,
        identity: Sequence[str],
        branches: Sequence[str],
        selections: Sequence[str | None],
    ) -> Binding:
        """What specs of this data would belong to. selections: those of the samples."""
        files = tuple(
            FileRecord(
                url=file.url,
                tree=file.tree,
                uuid=file.uuid,
                entries=file.entries,
                units=tuple(file.units.tolist()),
                selection=selections[file.sample] or "",
            )
            for file in manifest.files
        )
        return cls(files=files, split=split, identity=tuple(identity), branches=tuple(branches))

    def hash(self) -> str:
        """SHA-256 over file UUIDs, trees, entries and units, the split and the branches."""
        document = {
            "files": [list(file.key()) for file in self.files],
            "split": self.split.model_dump(mode="json"),
            "identity": list(self.identity),
            "branches": list(self.branches),
        }
        if self.split.files:  # only here does the name of a file matter
            document["splits"] = [split_of_file(self.split, file.url) for file in self.files]
        if any(file.selection for file in self.files):
            document["selections"] = [file.selection for file in self.files]
        return digest(document)


class Specs(_Model):
    """Statistics of every branch over the training split, and event counts of every file.

    Small JSON, reusable as long as the data is the same; see `verify`.
    """

    format: Literal["hepdata-specs"] = "hepdata-specs"
    version: Literal[1] = 1
    hash: str
    binding: Binding
    branches: dict[str, BranchStatistics]
    checksum: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Specs:
        """Read a specs file.

        Raises SpecsError if it is missing, not valid JSON of this version, or was edited.
        """
        path = Path(path)
        try:
            specs = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise SpecsError(f"no specs file {str(path)!r}") from None
        except OSError as error:
            raise SpecsError(f"cannot read specs file {path}: {error.strerror}") from None
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"]) or "the file"
            raise SpecsError(
                f"specs file {path} is corrupt or of another version: {place}: {fault['msg']}"
            ) from None
        if specs.hash != specs.binding.hash():
            raise SpecsError(f"specs file {path} is corrupt: its hash does not fit its contents")
        if specs.checksum != specs._checksum():
            raise SpecsError(f"specs file {path} is corrupt: it was changed since it was written")
        missing = set(specs.binding.branches) - specs.branches.keys()
        if missing:
            raise SpecsError(
                f"specs file {path} is corrupt: no statistics of {sorted(missing)[0]!r}"
            )
        return specs.model_copy(update={"checksum": ""})  # belongs to the file

    def save(self, path: str | Path) -> None:
        """Write atomically; an existing file stays whole until the new one is complete."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = self.model_dump(mode="json") | {"checksum": self._checksum()}
        text = json.dumps(document, separators=(",", ":")) + "\n"
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with partial.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)

    def _checksum(self) -> str:
        """SHA-256 over everything else: a changed mean must not go unnoticed."""
        return digest(self.model_dump(mode="json", exclude={"checksum"}))

    def verify(self, wanted: Binding, source: str = "specs") -> None:
        """Raise SpecsError naming what differs, unless these specs belong to the wanted data.

        Statistics of more branches than wanted do no harm.
        """
        differences = _file_differences(self.binding.files, wanted.files)
        differences += _split_differences(self.binding, wanted)
        if not differences and self.binding.identity != wanted.identity:
            differences.append(f"identity is {wanted.identity}, was {self.binding.identity}")
        unknown = [name for name in wanted.branches if name not in self.branches]
        if unknown:
            differences.append(f"no statistics of {', '.join(unknown[:5])}")
        if differences:
            raise SpecsError(
                f"{source} belong to other data: {'; '.join(differences[:6])}. "
                f"Make new ones with: hepdata-adapters specs CONFIG -o FILE"
            )

    def counts(self, file: int, split: SplitName | None) -> NDArray[np.int64]:
        """Events of a split (or all) in each unit of a file, ``(units,)`` int64."""
        record = self.binding.files[file]
        if split is None:
            units: NDArray[np.int64] = np.array([record.counts[name] for name in SPLITS]).sum(0)
            return units
        return np.array(record.counts[split], np.int64)

    def events(self, split: SplitName | None = None) -> int:
        """Events of a split (or all) over all files."""
        return sum(int(self.counts(i, split).sum()) for i in range(len(self.binding.files)))

    def summary(self) -> str:
        """One line: files, events and how they are split."""
        parts = ", ".join(f"{name} {self.events(name):,}" for name in SPLITS)
        return f"{len(self.binding.files)} file(s), {self.events():,} events ({parts})"


def _file_differences(old: Sequence[FileRecord], new: Sequence[FileRecord]) -> list[str]:
    before = {(file.uuid, file.tree): file for file in old}
    after = {(file.uuid, file.tree): file for file in new}
    found = [f"{after[k].url} was added" for k in after if k not in before]
    found += [f"{before[k].url} is gone" for k in before if k not in after]
    for name in after.keys() & before.keys():
        if after[name].entries != before[name].entries:
            found.append(
                f"{after[name].url} has {after[name].entries} entries, had {before[name].entries}"
            )
        elif after[name].key() != before[name].key():
            found.append(f"{after[name].url} has other clusters")
        elif after[name].selection != before[name].selection:
            now, then = after[name].selection or "none", before[name].selection or "none"
            found.append(f"the selection in {after[name].url} is {now}, was {then}")
    if not found and [f.key() for f in old] != [f.key() for f in new]:
        found.append("the files are in another order")
    return found


def _split_differences(old: Binding, new: Binding) -> list[str]:
    mine, theirs = old.split, new.split
    if mine.way != theirs.way:
        return [f"the split is by {theirs.way}, was by {mine.way}"]
    found = [
        f"split.{name} is {getattr(theirs, name)}, was {getattr(mine, name)}"
        for name in mine.model_dump()
        if getattr(mine, name) != getattr(theirs, name)
    ]
    if mine.files and not found:
        before = {(file.uuid, file.tree): split_of_file(mine, file.url) for file in old.files}
        for file in new.files:
            was, now = before.get((file.uuid, file.tree)), split_of_file(theirs, file.url)
            if was not in (None, now):
                found.append(f"{file.url} is in {now}, was in {was}")
    return found
