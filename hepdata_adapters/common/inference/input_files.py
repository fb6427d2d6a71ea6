"""Reading files for a trained model: units in input order, with the identity of each event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.columns import Array, Columns, take_all
from hepdata_adapters.common.core.errors import InvalidValueError, SchemaError
from hepdata_adapters.common.core.faults import error_of
from hepdata_adapters.common.events.identity import identity_branches
from hepdata_adapters.common.events.unit_events import Unit, read_units
from hepdata_adapters.common.files.manifest import FileInfo, Manifest, build_manifest
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.transform.advice import retrained
from hepdata_adapters.common.transform.pipeline import Transform, Transformed


@dataclass(frozen=True, eq=False)
class RawEvents:
    """The events of one unit: identity and raw columns, ``(n,)`` each.

    identity: ``file`` (number in the manifest), ``file_name``, ``entry``, and run,
    luminosityBlock, event where the files have them.
    """

    unit: Unit
    identity: dict[str, Array]
    columns: Columns

    @property
    def file(self) -> FileInfo:
        return self.unit.file

    @property
    def start(self) -> int:
        return self.unit.start


def scan_inputs(files: Sequence[str], transform: Transform) -> Manifest:
    """The manifest of files to predict; raises SchemaError where they do not fit the model."""
    manifest = build_manifest([Sample(files=tuple(files))])
    for wanted in transform.branches:
        for file in manifest.files:
            branch = file.branch(wanted.name)
            found = (branch.kind, branch.dtype, branch.size)
            if found != (wanted.kind, wanted.dtype, wanted.size):
                raise SchemaError(
                    f"is {branch.describe()}, the model was trained on "
                    f"{wanted.dtype} ({wanted.kind})",
                    file=file.url, tree=file.tree, branch=wanted.name,
                )  # fmt: skip
    return manifest


def raw_events(manifest: Manifest, branches: Sequence[str]) -> Iterator[RawEvents]:
    """All events, unit by unit, in input order, with the columns of these branches."""
    identity = identity_branches("auto", manifest)
    with Source([*branches, *identity]) as source:
        for number, file in enumerate(manifest.files):
            for unit in read_units(source, file):
                columns = unit.columns
                event: dict[str, Array] = {
                    "file": np.full(unit.size, number, np.int32),
                    "file_name": np.full(unit.size, file.url),
                    "entry": unit.entries,
                }
                event |= {
                    name: column
                    for name in identity
                    if isinstance(column := columns[name], np.ndarray)
                }
                yield RawEvents(unit, event, {name: columns[name] for name in branches})


def transformed(events: RawEvents, rows: NDArray[np.int64], transform: Transform) -> Transformed:
    """The representations of some events of a unit, and no look at others.

    A fault names file and entry.
    """
    columns = take_all(events.columns, rows)
    try:
        columns = transform.prepare(columns)
        for fault in transform.faults(columns):
            raise error_of(fault, retrained(fault))
    except InvalidValueError as error:
        file, row = events.file, error.row or 0
        raise error.at(file.url, file.tree, events.start + int(rows[row]) - row) from None
    return transform(columns)


def score_columns(scores: NDArray[np.float32], names: Sequence[str]) -> dict[str, Array]:
    """Scores ``(n,)`` or ``(n, classes)`` as one column an output.

    >>> list(score_columns(np.zeros((2, 2), np.float32), ["ttH", "QCD"]))
    ['score_ttH', 'score_QCD']
    """
    if scores.ndim == 1:
        return {"score": scores}
    return {f"score_{name}": scores[:, i] for i, name in enumerate(names)}
