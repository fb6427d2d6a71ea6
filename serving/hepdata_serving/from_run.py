"""A run folder to something that a server loads, with golden events that it must reproduce."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import hepdata_adapters
from hepdata_adapters.common.core.errors import ConfigError, FileError
from hepdata_adapters.common.runs.run_folder import PROVENANCE, Run
from hepdata_serving.answers import predict_events
from hepdata_serving.exportable import Exportable
from hepdata_serving.integrity import parse_json

ServerKind = Literal["torchserve", "tfserving", "onnx"]


def export_run(run: Run[Any], directory: Path, kind: ServerKind) -> Path:
    """Write a run for a kind of server; returns the archive or the folder of the model.

    Raises FileError if the run holds no golden events, ConfigError for a kind that the run's
    framework has no way to.
    """
    return EXPORTERS[kind](run, directory)


def _torchserve(run: Run[Any], directory: Path) -> Path:
    if run.config.framework != "torch":
        raise ConfigError(
            "TorchServe serves PyTorch models, and this run was trained with Keras: "
            "export it with --format tfserving"
        )
    from hepdata_serving.torchserve.export import export_torchserve

    return export_torchserve(directory, exportable_of(run))


def _tfserving(run: Run[Any], directory: Path) -> Path:
    if run.config.framework != "tf":
        raise ConfigError(
            "TF Serving serves TensorFlow models, and this run was trained with PyTorch; no "
            "maintained converter makes a SavedModel of it: export it with --format onnx (or "
            "torchserve), or train with --framework tf"
        )
    from hepdata_serving.tfserving.export import export_tfserving

    return export_tfserving(directory, exportable_of(run))


def _onnx(run: Run[Any], directory: Path) -> Path:
    if run.config.framework != "torch":
        raise ConfigError(
            "ONNX is written from PyTorch models, and this run was trained with Keras: "
            "export it with --format tfserving"
        )
    from hepdata_serving.onnx.export import export_onnx

    return export_onnx(directory, exportable_of(run))


EXPORTERS: dict[ServerKind, Callable[[Run[Any], Path], Path]] = {
    "torchserve": _torchserve,
    "tfserving": _tfserving,
    "onnx": _onnx,
}


def exportable_of(run: Run[Any]) -> Exportable[Any]:
    """The model of a run, with its golden events. Raises FileError if it has none."""
    path = run.folder / "golden_events.json"
    if not path.is_file():
        raise FileError("not a run folder: it has no golden_events.json", file=str(run.folder))
    events: list[dict[str, Any]] = parse_json(path.read_bytes(), str(path))
    framework = {"torch": "torch", "tf": "tensorflow"}[run.config.framework]
    return Exportable(
        name=run.config.name,
        scorer=run.model,
        transform=run.transform,
        task=run.task,
        outputs=run.score_names,
        golden_events=events,
        golden_predictions=predict_events(events, run.transform, run.score),
        metadata={
            "hepdata_adapters": hepdata_adapters.__version__,
            framework: version(framework),
            "specs": run.specs.hash,
            "provenance": _provenance(run.folder / PROVENANCE),
        },
    )


def _provenance(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileError(
            f"not a run folder: it has no {PROVENANCE}", file=str(path.parent)
        ) from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is corrupt") from None
    return found
