"""Specs: what one pass over the data learnt; the data it is bound to is in `binding`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hepdata_adapters.common.core.errors import SpecsError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.writing import write_whole
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.specs.binding import Binding, FileRecord
from hepdata_adapters.common.specs.class_statistics import ClassStatistics
from hepdata_adapters.common.specs.identities import Seen
from hepdata_adapters.common.specs.plausible_counts import impossible_counts, impossible_files
from hepdata_adapters.common.specs.separation import Shapes
from hepdata_adapters.common.specs.sparse import Sparse
from hepdata_adapters.common.specs.statistics import BranchStatistics

__all__ = ["Binding", "ClassStatistics", "FileRecord", "Sampled", "Specs"]

SHOWN = 5
"""Faults that an error names."""


class Sampled(BaseModel):
    """Which part of the units the statistics were made from; event counts are of all.

    units: read of ``of``, chosen by a hash with ``seed``. events: of the training split in them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fraction: float = Field(gt=0, lt=1)
    seed: int
    units: int = Field(ge=0)
    of: int = Field(ge=0)
    events: int = Field(ge=0)


class Specs(Sparse):
    """Statistics of every branch over the training split, and event counts of every file.

    Small JSON, reusable as long as the data is the same; see `verify`. classes: the statistics of
    each class by its label, where all classes weigh the same in ``branches``. sampled: how much
    was read, if not all. identities: a sample of those of the events, for `identities.repeats`.
    shapes: coarse distributions of the features by class.
    """

    optional = ("classes", "sampled", "identities", "shapes")

    format: Literal["hepdata-specs"] = "hepdata-specs"
    version: Literal[2] = 2
    hash: str
    binding: Binding
    branches: dict[str, BranchStatistics]
    classes: dict[str, ClassStatistics] = Field(default={})
    sampled: Sampled | None = None
    identities: tuple[Seen, ...] = ()
    shapes: Shapes = Field(default={})
    checksum: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Specs:
        """Read a specs file.

        Raises SpecsError if it is missing, not valid JSON of this version, was edited, or holds
        counts that no data can have.
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
        faults = list(islice(specs._impossible(), SHOWN))
        if faults:
            raise SpecsError(
                f"specs file {path} is corrupt: no data can have given {'; '.join(faults)}. "
                f"Make new ones with: hepdata-adapters specs CONFIG -o FILE"
            )
        return specs.model_copy(update={"checksum": ""})  # belongs to the file

    def save(self, path: str | Path) -> None:
        """Write atomically; an existing file stays whole until the new one is complete.

        Raises FileError where it cannot be written.
        """
        document = self.model_dump(mode="json") | {"checksum": self._checksum()}
        write_whole(path, json.dumps(document, separators=(",", ":")) + "\n")

    def _impossible(self) -> Iterator[str]:
        """What no data can have given, a phrase each; of the counts only if the files are sound."""
        faults = list(impossible_files(self.binding.files, drops=len(self.binding.drops)))
        if faults:
            yield from faults
            return
        training = self.events("train")
        yield from impossible_counts(self.branches, self.classes, training)
        sampled = self.sampled
        if sampled and (sampled.events > training or sampled.units > sampled.of):
            yield "the sampled part is more than the whole"

    def _checksum(self) -> str:
        """SHA-256 over everything else: a changed mean must not go unnoticed."""
        return digest(self.model_dump(mode="json", exclude={"checksum"}))

    def verify(self, wanted: Binding, source: str = "specs") -> None:
        """Raise SpecsError naming what differs, unless these specs belong to the wanted data.

        Statistics of more branches than wanted do no harm.
        """
        differences = self.binding.differences(wanted)
        unknown = [name for name in wanted.branches if name not in self.branches]
        if unknown:
            differences.append(f"no statistics of {', '.join(unknown[:5])}")
        if differences:
            raise SpecsError(
                f"{source} belong to other data: {'; '.join(differences[:6])}. "
                f"Make new ones with: hepdata-adapters specs CONFIG -o FILE"
            )

    def read_here(self, wanted: Binding) -> Specs:
        """The same specs, whose files have the names and states of the wanted data.

        They may have been made from copies elsewhere, by somebody else.
        """
        files = tuple(
            made.model_copy(update={"url": here.url, "state": here.state})
            for made, here in zip(self.binding.files, wanted.files, strict=True)
        )
        return self.model_copy(update={"binding": self.binding.model_copy(update={"files": files})})

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

    def left_out(self, reason: str) -> tuple[int, int]:
        """Events that a drop of the binding refuses, and all that the selections let pass.

        (0, all) for a reason that is none of its drops.
        """
        drops, files = self.binding.drops, self.binding.files
        every = self.events() + sum(sum(file.dropped) for file in files)
        if reason not in drops:
            return 0, every
        number = drops.index(reason)
        # older specs know of each event only the first drop that refused it
        counts = [file.refused or file.dropped for file in files]
        return sum(found[number] for found in counts if found), every

    def summary(self) -> str:
        """One line: files, events and how they are split."""
        parts = ", ".join(f"{name} {self.events(name):,}" for name in SPLITS)
        text = f"{len(self.binding.files)} file(s), {self.events():,} events ({parts})"
        if self.sampled is None:
            return text
        return (
            f"{text}, statistics of {self.sampled.events:,} training events in "
            f"{self.sampled.units} of {self.sampled.of} units"
        )
