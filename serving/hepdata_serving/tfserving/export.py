"""A trained model to a folder that TF Serving serves: one more version of one of its models.

``models/NAME/VERSION`` is a SavedModel on raw events; what it was made from, and the golden
events that it reproduces, lie in its ``assets.extra``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.core.errors import EventError
from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events, without_nan
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_serving.archive import checked_name, write_atomically
from hepdata_serving.checks import check_exportable, check_scores, check_task, golden_values, needed
from hepdata_serving.errors import ArchiveError, ExportError
from hepdata_serving.golden import check_golden, golden_text
from hepdata_serving.integrity import SUMS, folder_sums
from hepdata_serving.metadata import metadata_text
from hepdata_serving.tfserving.configs import BATCHING, BATCHING_TEXT, MONITORING, MONITORING_TEXT
from hepdata_serving.tfserving.readme import write_readme
from hepdata_serving.tfserving.saved_model import Scorer, Signatures, load_signatures, save_model
from hepdata_serving.tfserving.versions import announce, served_versions, versions_on_disk
from hepdata_serving.tfserving.warmup import WARMUP_FILE, warmup_requests, write_warmup


def export_tfserving(
    directory: Path,
    *,
    name: str,
    scorer: Scorer,
    transform: Transform,
    task: str,
    outputs: list[str],
    golden_events: list[dict[str, Any]],
    golden_predictions: list[Any],
    metadata: dict[str, Any],
) -> Path:
    """Write the next version of a model, and the configs and README of the folder.

    Returns ``directory/models/NAME/VERSION``. The first version is served as ``stable``, a later
    one as ``canary`` until it is promoted.

    scorer: ``x (n, d)`` float32 (a dict of tensors where the transform has inputs) to scores with
    the activation inside: ``(n,)`` for ``task`` ``"binary"`` and ``"regression"``, ``(n, C)`` for
    ``"multiclass"`` with the C names in
    ``outputs`` (else one name).
    golden_events: raw events (NaN allowed where the transform allows it) and their predictions.
    metadata: anything JSON can hold; NaN becomes null.

    Raises ConfigError for arguments that do not fit together, ExportError for a model that
    TensorFlow cannot save or that, loaded back, predicts other values than the golden ones,
    ArchiveError for a folder whose configs are corrupt. After an error the folder serves what it
    served before.
    """
    checked_name(name, "model name")
    check_task(task, outputs)
    check_exportable(transform)
    events = [needed(event, transform) for event in golden_events]
    expected = golden_values(events, golden_predictions)
    served_versions(directory)  # refuses a corrupt folder before the work is done
    version = max(versions_on_disk(directory, name), default=0) + 1
    frameworks = {"tensorflow": tf.__version__, "keras": keras.__version__}
    described = metadata_text(name, str(version), transform, task, outputs, metadata, frameworks)

    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as staging:
        model = Path(staging) / "model"
        save_model(model, transform, scorer)
        _check(load_signatures(model), transform, task, outputs, events, expected)
        extra = model / "assets.extra"
        extra.mkdir()
        write_warmup(extra / WARMUP_FILE, warmup_requests(name, events, transform))
        (extra / "transform.json").write_text(transform.model_dump_json(indent=1) + "\n")
        (extra / "golden.json").write_text(golden_text(events, expected))
        (extra / "metadata.json").write_text(described)
        (extra / SUMS).write_text(folder_sums(model))
        path = _publish(model, directory / "models" / name / str(version))

    announce(directory, name, version)
    write_atomically(directory / BATCHING, BATCHING_TEXT.encode())
    write_atomically(directory / MONITORING, MONITORING_TEXT.encode())
    write_readme(directory)
    return path


def _check(
    signatures: Signatures,
    transform: Transform,
    task: str,
    outputs: Sequence[str],
    events: Sequence[dict[str, Any]],
    expected: Sequence[Any],
) -> None:
    """Raise ExportError unless the loaded model gives the golden predictions."""
    try:
        classes = len(outputs) if task == "multiclass" else None
        check_scores(signatures.prepared, transform, classes)
        check_golden(
            events,
            expected,
            lambda given: predict_raw(without_nan(given), transform, signatures),
        )
    except tf.errors.OpError as error:
        raise ExportError(f"the exported model cannot be run: {error.message}") from error
    except (ArchiveError, EventError) as error:
        raise ExportError(f"the exported model is not the trained one: {error}") from error


def predict_raw(
    events: Sequence[object], transform: Transform, signatures: Signatures
) -> list[Any]:
    """Predictions through the signature on raw branches, as Python floats.

    Raises EventError naming the first bad event.
    """
    columns, faults = columns_from_events(events, transform)
    for index, reason in faults.items():
        raise EventError(f"event {index}: {reason}")
    scores: list[Any] = signatures.raw(dense_inputs(columns, transform)).astype(float).tolist()
    return scores


def _publish(model: Path, path: Path) -> Path:
    """Move a complete SavedModel to where TF Serving looks for it, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return model.rename(path)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be made: {error.strerror}. If another export wrote it meanwhile, "
            "export again"
        ) from error
