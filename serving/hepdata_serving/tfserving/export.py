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
from hepdata_serving.archive import write_atomically
from hepdata_serving.checks import check_scores
from hepdata_serving.errors import ArchiveError, ExportError
from hepdata_serving.exportable import Exportable
from hepdata_serving.golden import check_golden
from hepdata_serving.integrity import SUMS, folder_sums
from hepdata_serving.tfserving.configs import BATCHING, BATCHING_TEXT, MONITORING, MONITORING_TEXT
from hepdata_serving.tfserving.readme import write_readme
from hepdata_serving.tfserving.saved_model import Scorer, Signatures, load_signatures, save_model
from hepdata_serving.tfserving.versions import announce, served_versions, versions_on_disk
from hepdata_serving.tfserving.warmup import WARMUP_FILE, warmup_requests, write_warmup


def export_tfserving(directory: Path, model: Exportable[Scorer]) -> Path:
    """Write the next version of a model, and the configs and README of the folder.

    Returns ``directory/models/NAME/VERSION``. The first version is served as ``stable``, a later
    one as ``canary`` until it is promoted.

    Raises ConfigError for metadata that is not JSON, ExportError for a model that TensorFlow
    cannot save or that, loaded back, predicts other values than the golden ones, ArchiveError for
    a folder whose configs are corrupt. After an error the folder serves what it served before.
    """
    served_versions(directory)  # refuses a corrupt folder before the work is done
    version = max(versions_on_disk(directory, model.name), default=0) + 1
    frameworks = {"tensorflow": tf.__version__, "keras": keras.__version__}
    described = model.described(str(version), frameworks)

    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as staging:
        saved = Path(staging) / "model"
        save_model(saved, model.transform, model.scorer)
        _check(load_signatures(saved), model)
        extra = saved / "assets.extra"
        extra.mkdir()
        write_warmup(
            extra / WARMUP_FILE, warmup_requests(model.name, model.events, model.transform)
        )
        for name, content in described.items():
            (extra / name).write_bytes(content)
        (extra / SUMS).write_text(folder_sums(saved))
        path = _publish(saved, directory / "models" / model.name / str(version))

    announce(directory, model.name, version)
    write_atomically(directory / BATCHING, BATCHING_TEXT.encode())
    write_atomically(directory / MONITORING, MONITORING_TEXT.encode())
    write_readme(directory)
    return path


def _check(signatures: Signatures, model: Exportable[Scorer]) -> None:
    """Raise ExportError unless the loaded model gives the golden predictions."""
    try:
        check_scores(signatures.prepared, model.transform, model.classes)
        check_golden(
            model.events,
            model.expected,
            lambda given: predict_raw(without_nan(given), model.transform, signatures),
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


def _publish(saved: Path, path: Path) -> Path:
    """Move a complete SavedModel to where TF Serving looks for it, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return saved.rename(path)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be made: {error.strerror}. If another export wrote it meanwhile, "
            "export again"
        ) from error
