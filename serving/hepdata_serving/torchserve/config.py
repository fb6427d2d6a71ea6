"""TorchServe's ``config.properties``: what we set, and why."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hepdata_adapters.common.errors import ConfigError
from hepdata_serving.errors import ArchiveError
from hepdata_serving.integrity import parse_json

BATCH_SIZE = 16
MAX_BATCH_DELAY_MS = 2
MAX_REQUEST_BYTES = 16 * 1024 * 1024
JOB_QUEUE_SIZE = 256
RESPONSE_TIMEOUT_S = 60
STARTUP_TIMEOUT_S = 120

_HEADER = """\
# Written by hepdata-adapters; read by TorchServe and by `hepdata-adapters serve`.
# One setting a line. What the values are for:
# - everything listens on this machine only; put a proxy that knows your users before it
# - models: batchSize {batch} with maxBatchDelay {delay} ms served several times the single-event
#   requests/s of no batching, at a fraction of the latency (32 connections, 2 cores, see
#   benchmarks/torchserve_batching.py). A lone request waits the whole delay; TorchServe's own
#   default is 100 ms. More workers want more cores.
# - enable_model_api=false, allowed_urls: no client can load, replace or unload a model
# - disable_token_authorization: tokens would also guard /ping; loopback is the guard here
# - decode_input_request=false: the handler parses the body, so bad JSON gets its own 400
"""


@dataclass(frozen=True)
class Ports:
    """The ports of one server, all on 127.0.0.1."""

    inference: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_inference: int = 7070
    grpc_management: int = 7071

    def properties(self) -> dict[str, str]:
        """The settings that open these ports."""
        return {
            "inference_address": f"http://127.0.0.1:{self.inference}",
            "management_address": f"http://127.0.0.1:{self.management}",
            "metrics_address": f"http://127.0.0.1:{self.metrics}",
            "grpc_inference_address": "127.0.0.1",
            "grpc_inference_port": str(self.grpc_inference),
            "grpc_management_address": "127.0.0.1",
            "grpc_management_port": str(self.grpc_management),
        }


@dataclass(frozen=True)
class Model:
    """A model as its archive's manifest names it."""

    name: str
    version: str
    archive: str


def models_in(store: Path) -> list[Model]:
    """The models of a model store, by name.

    Raises ConfigError when there is none, ArchiveError for a file that is no archive.
    """
    paths = sorted(store.glob("[!.]*.mar")) if store.is_dir() else []
    if not paths:
        raise ConfigError(
            f"{store} holds no model archive (*.mar); "
            "make one with: hepdata-adapters export RUN --format torchserve -o DIR"
        )
    return [_model(path) for path in paths]


def settings(models: Sequence[Model], workers: int = 1) -> dict[str, str]:
    """All settings for these models, at TorchServe's usual ports."""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for model in models:
        table.setdefault(model.name, {})[model.version] = {
            "defaultVersion": True,
            "marName": model.archive,
            "minWorkers": workers,
            "maxWorkers": workers,
            "batchSize": BATCH_SIZE,
            "maxBatchDelay": MAX_BATCH_DELAY_MS,
            "responseTimeout": RESPONSE_TIMEOUT_S,
            "startupTimeout": STARTUP_TIMEOUT_S,
        }
    return {
        **Ports().properties(),
        "model_store": "model_store",
        "load_models": "all",
        "models": json.dumps(table, sort_keys=True),
        "allowed_urls": "file://.*",
        "enable_model_api": "false",
        "disable_token_authorization": "true",
        "decode_input_request": "false",
        "number_of_gpu": "0",
        "job_queue_size": str(JOB_QUEUE_SIZE),
        "max_request_size": str(MAX_REQUEST_BYTES),
        "max_response_size": str(MAX_REQUEST_BYTES),
        "default_response_timeout": str(RESPONSE_TIMEOUT_S),
        "default_startup_timeout": str(STARTUP_TIMEOUT_S),
        "disable_system_metrics": "true",
    }


def with_workers(properties: Mapping[str, str], workers: int) -> dict[str, str]:
    """The settings with this number of worker processes for each model.

    >>> with_workers({"models": '{"a": {"1.0": {"batchSize": 4}}}'}, 2)["models"]
    '{"a": {"1.0": {"batchSize": 4, "maxWorkers": 2, "minWorkers": 2}}}'
    """
    try:
        table = json.loads(properties["models"])
        for versions in table.values():
            for options in versions.values():
                options |= {"minWorkers": workers, "maxWorkers": workers}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"config.properties: 'models' is not a JSON table of models ({error}); "
            "export the model again to restore it"
        ) from error
    return {**properties, "models": json.dumps(table, sort_keys=True)}


def render(properties: Mapping[str, str]) -> str:
    """The text of ``config.properties``."""
    header = _HEADER.format(batch=BATCH_SIZE, delay=MAX_BATCH_DELAY_MS)
    return header + "".join(f"{key}={value}\n" for key, value in properties.items())


def parse(text: str) -> dict[str, str]:
    r"""The settings of a ``config.properties`` that has one setting a line.

    >>> parse("# why\nload_models = all\n")
    {'load_models': 'all'}
    """
    properties: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line[0] in "#!":
            continue
        key, equals, value = line.partition("=")
        if not equals or value.endswith("\\"):
            raise ConfigError(f"config.properties, line {number}: expected key=value on one line")
        properties[key.strip()] = value.strip()
    return properties


def _model(path: Path) -> Model:
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = parse_json(archive.read("MAR-INF/MANIFEST.json"), "its manifest")
        model = manifest["model"]
        return Model(str(model["modelName"]), str(model["modelVersion"]), path.name)
    except (OSError, zipfile.BadZipFile, ArchiveError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path} is not a TorchServe archive: {error}") from error
