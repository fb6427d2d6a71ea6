"""What the tests of exported ONNX models share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hepdata_serving.answers import predict_events
from tests.helpers.exporters import export_onnx
from tests.helpers.folders import once
from tests.helpers.torchserve_example import ExampleScorer, eager, example_events, example_transform


def export(directory: Path, **changes: Any) -> Path:
    transform = changes.get("transform", example_transform())
    scorer = changes.get("scorer", ExampleScorer(transform.num_features))
    arguments: dict[str, Any] = {
        "name": "example",
        "scorer": scorer,
        "transform": transform,
        "task": "binary",
        "outputs": ["signal"],
        "golden_events": example_events(8),
        "metadata": {"auc": 0.9},
    } | changes
    if "golden_predictions" not in changes:
        events = arguments["golden_events"]
        arguments["golden_predictions"] = predict_events(events, transform, eager(scorer))
    return export_onnx(directory, **arguments)


def exported_model(factory: pytest.TempPathFactory) -> Path:
    """The folder of the model ``example``; not to be changed."""
    return once(factory, "onnx", export) / "example"
