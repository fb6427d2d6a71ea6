"""TorchServe's ``config.properties``: what we set, and why."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.errors import ArchiveError
from hepdata_serving.integrity import parse_json
from hepdata_serving.torchserve.properties import render

CONFIG = "config.properties"
STORE = "model_store"

BATCH_SIZE = 16
MAX_BATCH_DELAY_MS = 2
MAX_REQUEST_BYTES = 16 * 1024 * 1024
JOB_QUEUE_SIZE = 256
RESPONSE_TIMEOUT_S = 60
STARTUP_TIMEOUT_S = 120

_HEADER = f"""\
# Written by hepdata-adapters; read by TorchServe and by `hepdata-adapters serve`.
# One setting a line. A later export, promote or rollback changes `models` and `load_models` and
# leaves all else as you wrote it. What the values are for:
# - everything listens on this machine only; put a proxy that knows your users before it, or set
#   https addresses with a keystore (or private_key_file and certificate_file). `serve` honours
#   all settings; of the addresses that stand here as they were written it takes free ports for
#   all but the predictions.
# - models: batchSize {BATCH_SIZE} with maxBatchDelay {MAX_BATCH_DELAY_MS} ms served several times the single-event
#   requests/s of no batching, at a fraction of the latency (32 connections, 2 cores, see
#   benchmarks/torchserve_batching.py). A lone request waits the whole delay; TorchServe's own
#   default is 100 ms. More workers want more cores.
# - load_models: the stable version of a model first, because TorchServe answers requests that
#   name no version with the one that it loaded first
# - enable_model_api=false, allowed_urls: no client can load, replace or unload a model
# - disable_token_authorization: tokens would also guard /ping; loopback is the guard here. With
#   false, TorchServe writes its tokens to key_file.json, and `serve` says where that is.
# - metrics_mode=prometheus: without it, the page /metrics of metrics_address is empty
# - decode_input_request=false: the handler parses the body, so bad JSON gets its own 400
"""  # noqa: E501

ADDRESSES = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "metrics_address": "http://127.0.0.1:8082",
    "grpc_inference_address": "127.0.0.1",
    "grpc_inference_port": "7070",
    "grpc_management_address": "127.0.0.1",
    "grpc_management_port": "7071",
}
"""Where TorchServe listens unless told otherwise."""

Table = dict[str, dict[str, dict[str, Any]]]
"""The setting ``models``: for each name and version, its options."""


@dataclass(frozen=True)
class Model:
    """A model as its archive's manifest names it."""

    name: str
    version: str
    archive: str


def models_in(store: Path) -> list[Model]:
    """The models of a model store, by name of the archive.

    Raises ConfigError when there is none, ArchiveError for a file that is no archive.
    """
    paths = sorted(store.glob("[!.]*.mar")) if store.is_dir() else []
    if not paths:
        raise ConfigError(
            f"{store} holds no model archive (*.mar); "
            "make one with: hepdata-adapters export RUN --format torchserve -o DIR"
        )
    return [model_of(path) for path in paths]


def model_of(path: Path) -> Model:
    """The model of an archive. Raises ArchiveError for what is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = parse_json(archive.read("MAR-INF/MANIFEST.json"), "its manifest")
        model = manifest["model"]
        return Model(str(model["modelName"]), str(model["modelVersion"]), path.name)
    except (OSError, zipfile.BadZipFile, ArchiveError, KeyError, TypeError) as error:
        raise ArchiveError(f"{path} is not a TorchServe archive: {error}") from error


def options(archive: str) -> dict[str, Any]:
    """What a newly exported version of a model gets."""
    return {
        "marName": archive,
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": BATCH_SIZE,
        "maxBatchDelay": MAX_BATCH_DELAY_MS,
        "responseTimeout": RESPONSE_TIMEOUT_S,
        "startupTimeout": STARTUP_TIMEOUT_S,
    }


def settings() -> dict[str, str]:
    """All settings but those of the models, at TorchServe's usual ports."""
    return {
        **ADDRESSES,
        "model_store": STORE,
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
        "metrics_mode": "prometheus",
        "disable_system_metrics": "true",
    }


def new_text() -> str:
    """The text of a ``config.properties`` that names no models yet."""
    return _HEADER + render(settings())


def table_in(properties: Mapping[str, str]) -> Table:
    """The table of models. Raises ConfigError where the settings have none.

    >>> table_in({"models": '{"a": {"1.0": {"batchSize": 4}}}'})
    {'a': {'1.0': {'batchSize': 4}}}
    """
    try:
        found = parse_json(properties["models"], "it")
        return {
            name: {version: dict(options) for version, options in versions.items()}
            for name, versions in found.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError, ArchiveError) as error:
        raise ConfigError(
            f"{CONFIG}: 'models' is not a JSON table of models ({error}); "
            "remove the file and export the model again to restore it"
        ) from error


def table_text(table: Table) -> str:
    return json.dumps(table, sort_keys=True)


def with_workers(table: Table, workers: int) -> Table:
    """The table with this number of worker processes for each version."""
    return {
        name: {
            version: options | {"minWorkers": workers, "maxWorkers": workers}
            for version, options in versions.items()
        }
        for name, versions in table.items()
    }
