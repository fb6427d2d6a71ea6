"""What the tests of exports for TF Serving, and of the server for them, share."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_serving.tfserving.server import TFServer
from tests.helpers.folders import once
from tests.helpers.tfserving_example import offline, small_export, small_scorer, small_transform

TRANSFORM = small_transform()
GOOD: dict[str, Any] = {
    "MET": [1.5, 2.5],
    "event_number": [1, 2],
    "HT": [100.0, 200.0],
    "trigger": [True, False],
    "vertex": [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]],
    "Jet_pt": [[50.0, 30.0], [40.0, 0.0]],
    "Jet_pt_length": [2, 1],
    "Lep_eta": [[0.5], [0.0]],
    "Lep_eta_length": [1, 0],
}
MISSING = object()


def exported_models(factory: pytest.TempPathFactory) -> Path:
    """A folder of model ``tth`` in versions 1 (stable) and 2 (canary); not to be changed."""
    return once(factory, "tth", lambda folder: small_export(folder, versions=2))


@contextlib.contextmanager
def serve_models(factory: pytest.TempPathFactory) -> Iterator[TFServer]:
    """Both versions of ``tth``, and ``three`` with three classes."""
    folder = factory.mktemp("models") / "copy"
    shutil.copytree(exported_models(factory), folder)
    small_export(folder, "three", classes=3)
    with TFServer(folder, port=0, grpc_port=0, poll=None) as running:
        yield running


def expected(events: list[dict[str, Any]], version: int = 1, classes: int = 1) -> Any:
    scorer = small_scorer(TRANSFORM.num_features, classes, version - 1)
    return np.array(offline(scorer, TRANSFORM, events))


def inputs_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    columns, faults = columns_from_events(events, TRANSFORM)
    assert not faults
    return dense_inputs(columns, TRANSFORM)


def rows_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One object an event, as the row format wants them."""
    lists = {name: values.tolist() for name, values in inputs_of(events).items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def post(url: str, body: Any) -> requests.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(url, data=content, timeout=60)


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=60)


def at(server: TFServer, place: str, name: str = "tth") -> str:
    return server.urls[name].removesuffix(":predict") + place
