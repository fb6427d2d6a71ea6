"""The configs of a roll-out sent to a running ``tensorflow_model_server``, one by one.

A client: it needs grpc, and no TensorFlow.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.errors import ArchiveError, ServerError
from hepdata_serving.tfserving.protocol import AVAILABLE, END, call, message
from hepdata_serving.tfserving.versions import ROLLOUT

_POLL_SECONDS = 0.2


def apply_rollout(target: str, directory: Path | str, timeout: float = 60.0) -> list[Path]:
    """Send ``directory/rollout/*.config`` in order; returns those that the server needed.

    Waits after each until all of its versions are available, because the next one may label
    them. A server that is there already, because it watches the folder itself, needs none.
    target: ``host:port`` of the server's gRPC. timeout: seconds for each config.
    Raises ConfigError if there is none, ArchiveError for a corrupt one, ServerError if the
    server refuses a config or does not load a version in time.
    """
    paths = sorted((Path(directory) / ROLLOUT).glob("*.config"))
    if not paths:
        raise ConfigError(f"{Path(directory) / ROLLOUT} holds no config to send")
    configs = [_read(path) for path in paths]
    with grpc.insecure_channel(target) as channel:
        for number, (path, config) in enumerate(zip(paths, configs, strict=True)):
            if _serves(channel, configs[-1], timeout):
                return paths[:number]
            try:
                _send(channel, config, timeout)
            except (grpc.RpcError, ServerError) as error:
                # it may have got there on its own since it was asked
                if _serves(channel, configs[-1], timeout):
                    return paths[:number]
                reason = error.details() if isinstance(error, grpc.RpcError) else error
                raise ServerError(f"{target} did not take {path}: {reason}") from error
    return paths


def _read(path: Path) -> Any:
    try:
        return text_format.Parse(path.read_text(), message("ModelServerConfig")())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ArchiveError(f"{path} is corrupt: {error}") from error


def _serves(channel: grpc.Channel, config: Any, timeout: float) -> bool:
    """Whether the server has the versions of the config, no others, and its labels."""
    for model in config.model_config_list.config:
        try:
            if _available(channel, model.name, timeout) != set(
                model.model_version_policy.specific.versions
            ):
                return False
            for label, version in model.version_labels.items():
                if _available(channel, model.name, timeout, label) != {version}:
                    return False
        except grpc.RpcError:
            return False  # no such model or label, or no server: sending will tell
    return True


def _available(
    channel: grpc.Channel, name: str, timeout: float, label: str | None = None
) -> set[int]:
    """The versions of a model, or of one of its labels, that answer."""
    request = message("GetModelStatusRequest")()
    request.model_spec.name = name
    if label is not None:
        request.model_spec.version_label = label
    found = call(channel, "GetModelStatus")(request, timeout=timeout).model_version_status
    return {status.version for status in found if status.state == AVAILABLE}


def _send(channel: grpc.Channel, config: Any, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    request = message("ReloadConfigRequest")(config=config)
    answer = call(channel, "HandleReloadConfigRequest")(request, timeout=timeout)
    if answer.status.error_code:
        raise ServerError(answer.status.error_message)
    for model in config.model_config_list.config:
        for version in model.model_version_policy.specific.versions:
            _wait(channel, model.name, version, deadline)


def _wait(channel: grpc.Channel, name: str, version: int, deadline: float) -> None:
    """Return once the version is available."""
    request = message("GetModelStatusRequest")()
    request.model_spec.name = name
    request.model_spec.version.value = version
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ServerError(f"version {version} of {name!r} is not available in time")
        try:
            found = call(channel, "GetModelStatus")(request, timeout=left).model_version_status
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            found = []  # the server has not looked at its folder yet
        for status in found:
            if status.state == AVAILABLE:
                return
            if status.state == END:
                raise ServerError(
                    f"version {version} of {name!r} failed to load: {status.status.error_message}"
                )
        time.sleep(_POLL_SECONDS)
