"""Scores of a trained run for any files, streamed to a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hepdata_adapters.common.inference import (
    raw_events,
    scan_inputs,
    score_columns,
    transformed,
)
from hepdata_adapters.common.ledger import Ledger
from hepdata_adapters.common.scores import ScoreWriter
from hepdata_adapters.common.transform.vector import Vectors
from hepdata_adapters.torch.module import Scorer
from hepdata_adapters.torch.run import load_run


def predict_local(
    folder: str | Path,
    files: Sequence[str],
    output: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Score all events of the files, in input order; returns their number.

    Rows hold ``file`` (number of the input file), ``entry``, run, luminosityBlock and event
    where all files have them, and ``score`` float32 (``score_<class>`` for several classes).
    Raises the errors of reading, SchemaError and InvalidValueError.
    """
    run = load_run(folder)
    manifest = scan_inputs(files, run.transform)
    ledger = Ledger()
    done = 0
    with ScoreWriter(output) as writer:
        branches = [feature.branch for feature in run.transform.features]
        for events in raw_events(manifest, branches):
            vectors = transformed(events, run.transform)
            ledger.add_vectors(
                vectors.dropped, vectors.filled,
                [feature.branch for feature in run.transform.jagged],
                branches,
            )  # fmt: skip
            scores = score(run.scorer, vectors)
            writer.write(events.identity | score_columns(scores, run.class_names))
            done += len(scores)
            progress(done, manifest.entries)
    if ledger.to_dict():
        print(ledger, file=sys.stderr)
    return done


@torch.inference_mode()
def score(scorer: Scorer, vectors: Vectors) -> NDArray[np.float32]:
    """Scores of transformed events, ``(n,)`` or ``(n, classes)`` float32."""
    scores: NDArray[np.float32] = scorer(torch.from_numpy(vectors.x)).numpy()
    return scores
