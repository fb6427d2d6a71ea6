"""A run folder as a TorchServe archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import hepdata_adapters
from hepdata_adapters.common.errors import FileError
from hepdata_adapters.common.events import columns_from_events
from hepdata_adapters.torch.run import Run
from hepdata_serving.torchserve.export import export_torchserve


def export_run(run: Run, directory: Path) -> Path:
    """Write the archive of a run, with golden events that its server must reproduce.

    Returns the path of the ``.mar``. The same run gives the same bytes.
    Raises FileError if the run holds no golden events.
    """
    path = run.folder / "golden_events.json"
    if not path.is_file():
        raise FileError("not a run folder: it has no golden_events.json", file=str(run.folder))
    events: list[dict[str, Any]] = json.loads(path.read_text())
    return export_torchserve(
        directory,
        name=run.config.name,
        version="1.0",
        scorer=run.scorer,
        transform=run.transform,
        task=run.task,
        # a binary score is the probability of class 1
        outputs=run.class_names if run.task == "multiclass" else run.class_names[-1:],
        golden_events=events,
        golden_predictions=offline_predictions(run, events),
        metadata={
            "hepdata_adapters": hepdata_adapters.__version__,
            "torch": torch.__version__,
            "specs": run.specs.hash,
        },
    )


@torch.inference_mode()
def offline_predictions(run: Run, events: list[dict[str, Any]]) -> list[Any]:
    """What a server of this run must answer for raw events, in order."""
    columns, faults = columns_from_events(events, run.transform)
    if faults:
        index, reason = next(iter(faults.items()))
        raise FileError(f"event {index}: {reason}", file=str(run.folder / "golden_events.json"))
    answers: list[Any] = run.scorer(torch.from_numpy(run.transform(columns).x)).tolist()
    return answers
