"""Scores of a trained run for any files, streamed to a file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.columns import Array, Columns
from hepdata_adapters.common.core.ledger import Ledger
from hepdata_adapters.common.core.tally import ledger_of
from hepdata_adapters.common.events.split import SPLITS
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.inference.input_files import (
    RawEvents,
    raw_events,
    scan_inputs,
    score_columns,
    transformed,
)
from hepdata_adapters.common.inference.score_writer import ScoreWriter
from hepdata_adapters.common.runs.applicable_events import NONE, UNKNOWN, Applied, Role, apply
from hepdata_adapters.common.runs.run_folder import Run

_NAMES = np.array([*SPLITS, NONE])  # indexed by code; that of none is -1


@dataclass
class Predicted:
    """What was done. events: rows written; scored: those with a score, by split."""

    events: int = 0
    outside: int = 0
    scored: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        scored = self.scored.total()
        text = f"{self.events:,} events"
        parts = [f"{name} {self.scored[name]:,}" for name in SPLITS if self.scored[name]]
        if self.scored[NONE]:
            parts.append(f"in no split {self.scored[NONE]:,}")
        if parts:
            text += f", {scored:,} scored ({', '.join(parts)})"
        if self.outside > 0:
            text += f"; {self.outside:,} outside the selection have no score"
        if self.scored["train"]:
            text += "; the model was trained on those of train"
        return text


def predict_local(
    run: Run[Any],
    files: Sequence[str],
    output: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
    *,
    sample: str | None = None,
    every: bool = False,
) -> Predicted:
    """Score the events of the files, one row an event, in input order.

    sample: the sample of the training that all files belong to; found by their names otherwise.
    every: also score events that the selection of their sample, or a ``drop`` policy, leaves out.

    Rows hold ``file`` (number of the input file), ``file_name``, ``entry``, run, luminosityBlock
    and event where all files have them, ``sample``, ``selected`` bool, ``split`` (train,
    validation, test or none, as the training has it), ``weight`` float64 where it is known for
    all files, and ``score`` float32 (``score_<class>`` for several classes), NaN for events that
    are not scored.
    Raises the errors of reading, SchemaError and InvalidValueError, ConfigError where the
    selection of a file cannot be known.
    """
    manifest = scan_inputs(files, run.transform)
    applied = apply(run, manifest, sample, every=every)
    known = {(role.file.url, role.file.tree): role for role in applied.roles}
    ledger, done = Ledger(), Predicted(remarks=_remarks(applied, run.config))
    weighed = all(role.weight for role in applied.roles)
    branches = [branch.name for branch in run.transform.branches]
    with ScoreWriter(output) as writer, _Deciding(applied) as deciding:
        for events in raw_events(manifest, branches):
            role = known[events.file.url, events.file.tree]
            columns = deciding.read(role, events)
            size = events.unit.size
            selected = applied.selected(role, columns, size)
            names = _NAMES[applied.codes(role, columns, selected, events.start)]
            rows = np.arange(size) if every else np.flatnonzero(selected)
            extra: dict[str, Array] = {
                "sample": np.full(size, role.sample), "selected": selected, "split": names,
            }  # fmt: skip
            if weighed and (weights := applied.weights(role, columns, size)) is not None:
                extra["weight"] = weights
            scores = _scores(run, events, rows, size, ledger)
            writer.write(events.identity | extra | score_columns(scores, run.class_names))
            done.events += size
            done.outside += size - len(rows)
            done.scored.update(names[rows].tolist())
            progress(done.events, manifest.entries)
    if ledger.to_dict():
        print(ledger, file=sys.stderr)
    return done


class _Deciding:
    """Reads what decides on the events of each file, beside the branches of the model."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied
        self._sources: dict[tuple[str, ...], Source] = {}

    def __enter__(self) -> _Deciding:
        return self

    def __exit__(self, *_: object) -> None:
        for source in self._sources.values():
            source.close()

    def read(self, role: Role, events: RawEvents) -> Columns:
        """The columns of the events."""
        names = self._applied.branches(role)
        if not names:
            return {}
        source = self._sources.setdefault(names, Source(names))
        return source.read(role.file, events.unit.start, events.unit.stop)


def _scores(
    run: Run[Any], events: RawEvents, rows: NDArray[np.int64], size: int, ledger: Ledger
) -> NDArray[np.float32]:
    """The scores of the ``rows``, NaN elsewhere; ``(n,)`` or ``(n, classes)``."""
    shape = (size, len(run.class_names)) if run.task == "multiclass" else (size,)
    scores = np.full(shape, np.nan, np.float32)
    if len(rows):
        made = transformed(events, rows, run.transform)
        ledger.merge(ledger_of(made.counts, run.transform.counted))
        _count_objects(run, events, rows, ledger)
        scores[rows] = run.score(run.transform.model_input(made.arrays))
    return scores


def _count_objects(
    run: Run[Any], events: RawEvents, rows: NDArray[np.int64], ledger: Ledger
) -> None:
    lines = run.transform.objects_counted
    counts: Mapping[str, Any] = run.transform.preparation(events.columns, lines) if lines else {}
    for name, (kind, place) in lines.items():
        ledger.add(kind, int(counts[name][rows].sum()), place)


def _remarks(applied: Applied, config: DatasetConfig) -> list[str]:
    """What is not known of the files, in words."""
    found = []
    unknown = "of no sample of the training"
    if len({sample.selection for sample in config.samples}) > 1:
        unknown += ", so no selection is known and every event is marked as selected"
    for text, lacking in (
        (unknown, [r for r in applied.roles if r.sample == UNKNOWN]),
        ("without a known split", [r for r in applied.roles if r.identity is None]),
        ("whose weight is not known, so no file has the column", [r for r in applied.roles
                                                                   if r.weight is None]),
    ):  # fmt: skip
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            found.append(f"{lacking[0].file.url}{more}: {text}")
    return found
