"""Scores of a served model for any files, streamed to a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.errors import DataError, EventError
from hepdata_adapters.common.files.manifest import build_manifest
from hepdata_adapters.common.inference.input_files import raw_events, score_columns
from hepdata_adapters.common.inference.raw_events import events_from_columns
from hepdata_adapters.common.inference.score_writer import ScoreWriter
from hepdata_serving import client
from hepdata_serving.tfserving import client as tfserving_client


def predict_remote(
    url: str, files: Sequence[str], output: Path, progress: Callable[[int, int], None]
) -> int:
    """Send all events of the files to a server, in input order; returns their number.

    Every readable branch that all files have is sent: the server takes those it needs. Rows are
    those of `hepdata_adapters.common.runs.predict.predict_local`; several classes are numbered.
    Raises DataError naming file and entries where the server refuses an event, ServerError
    where it does not answer.
    """
    # the paths that TF Serving answers end like this, and those of TorchServe never do
    predict = tfserving_client.predict if url.endswith(":predict") else client.predict
    manifest = build_manifest([Sample(files=tuple(files))])
    first, *others = [file.schema for file in manifest.files]
    branches = [
        branch.name
        for branch in first.values()
        if branch.readable and all(branch.name in schema for schema in others)
    ]
    done = 0
    with ScoreWriter(output) as writer:
        for events in raw_events(manifest, branches):
            try:
                answers = predict(url, events_from_columns(events.columns))
            except EventError as error:
                raise DataError(
                    f"the server refused {error} (counted from entry {events.start})",
                    file=events.file.url, tree=events.file.tree,
                ) from None  # fmt: skip
            scores = np.array(answers, np.float32)
            classes = scores.shape[1] if scores.ndim == 2 else 1
            names = list(map(str, range(classes)))
            writer.write(events.identity | score_columns(scores, names))
            done += len(answers)
            progress(done, manifest.entries)
    return done
