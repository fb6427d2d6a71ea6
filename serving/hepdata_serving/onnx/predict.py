"""Scores of an exported ONNX model for any files, streamed to a file; needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hepdata_adapters.common.core.columns import take_all
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.inference.input_files import raw_events, scan_inputs, score_columns
from hepdata_adapters.common.inference.score_writer import ScoreWriter
from hepdata_serving.onnx.runtime import OnnxModel


def predict_onnx(
    folder: Path | str,
    files: Sequence[str],
    output: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Score all events of the files, in input order; returns their number.

    Rows hold ``file``, ``file_name``, ``entry``, run, luminosityBlock and event where all files
    have them, and ``score`` float32 (``score_<class>`` for several classes). The graph knows
    neither selections nor splits of the training.

    Raises ArchiveError for a folder that is not as it was exported, SchemaError for files that
    the model does not fit, DataError naming file and entry of an event that it refuses.

    ::

        predict_onnx("onnx/tth", ["data.root:Events"], Path("scores.root"))
    """
    model = OnnxModel(folder)
    manifest = scan_inputs(files, model.transform)
    branches = [branch.name for branch in model.transform.branches]
    done = 0
    with ScoreWriter(output) as writer:
        for events in raw_events(manifest, branches):
            scores, valid = model.run(events.columns)
            if not valid.all():
                row = int(np.argmin(valid))
                entry = events.start + row
                reason = model.reason(take_all(events.columns, np.array([row])))
                raise DataError(
                    f"the model refuses an event: {reason}",
                    file=events.file.url, tree=events.file.tree, entries=(entry, entry + 1),
                )  # fmt: skip
            writer.write(events.identity | score_columns(scores, model.outputs))
            done += len(valid)
            progress(done, manifest.entries)
    return done
