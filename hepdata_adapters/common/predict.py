"""Scores of a trained run for any files, streamed to a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hepdata_adapters.common.inference import (
    raw_events,
    scan_inputs,
    score_columns,
    transformed,
)
from hepdata_adapters.common.ledger import Ledger
from hepdata_adapters.common.run import Run
from hepdata_adapters.common.scores import ScoreWriter


def predict_local(
    run: Run[Any],
    files: Sequence[str],
    output: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Score all events of the files, in input order; returns their number.

    Rows hold ``file`` (number of the input file), ``entry``, run, luminosityBlock and event
    where all files have them, and ``score`` float32 (``score_<class>`` for several classes).
    Raises the errors of reading, SchemaError and InvalidValueError.
    """
    manifest = scan_inputs(files, run.transform)
    ledger = Ledger()
    done = 0
    with ScoreWriter(output) as writer:
        branches = [branch.name for branch in run.transform.branches]
        for events in raw_events(manifest, branches):
            made = transformed(events, run.transform)
            ledger.add_counts(made.counts, run.transform.counted)
            scores = run.score(run.transform.model_input(made.arrays))
            writer.write(events.identity | score_columns(scores, run.class_names))
            done += len(scores)
            progress(done, manifest.entries)
    if ledger.to_dict():
        print(ledger, file=sys.stderr)
    return done
