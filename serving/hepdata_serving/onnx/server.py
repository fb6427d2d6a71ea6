"""Exported ONNX models over HTTP, on this machine only; bodies are those of our TorchServe."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.answers import answer_one
from hepdata_serving.errors import BodyError, ServerError
from hepdata_serving.incoming import MAX_BODY_BYTES, decoded
from hepdata_serving.onnx.runtime import OnnxModel, onnx_folders
from hepdata_serving.signals import signals_set

_HOST = "127.0.0.1"
_GRACE_S = 5
_THREADS = 8


def app(models: Mapping[str, OnnxModel], pool: ThreadPoolExecutor) -> Starlette:
    """``POST /predictions/NAME`` and ``GET /ping`` of these models, which run in the pool."""

    async def predict(request: Request) -> Response:
        model = models.get(name := request.path_params["name"])
        if model is None:
            there = ", ".join(sorted(models))
            return _error(HTTPStatus.NOT_FOUND, f"no model {name!r} is served here, only {there}")
        try:
            body = await _body(request)
            encoding = request.headers.get("content-encoding", "")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, _answer, model, body, encoding)
        except ClientDisconnect:
            return Response()  # nobody waits for it any more
        except BodyError as error:
            response = _error(error.status, str(error))
            response.headers["Connection"] = "close"  # the rest of the body is not read
            return response

    async def ping(_: Request) -> Response:
        return _json(200, b'{"status": "Healthy"}')

    routes = [
        Route("/predictions/{name}", predict, methods=["POST"]),
        Route("/ping", ping, methods=["GET"]),
    ]
    return Starlette(routes=routes)


async def _body(request: Request) -> bytes:
    """The body as it came. Raises BodyError beyond `MAX_BODY_BYTES`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise BodyError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body is larger than {MAX_BODY_BYTES} bytes",
            )
    return bytes(body)


def _answer(model: OnnxModel, body: bytes, encoding: str) -> Response:
    try:
        answer = answer_one(decoded(body, encoding), model.transform, model.scores)
    except BodyError as error:
        return _error(error.status, str(error))
    return _json(answer.status, answer.body)


def _error(status: int, reason: str) -> Response:
    return _json(status, json.dumps({"error": reason, "instances": {}}).encode())


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")


def serve(
    directory: Path | str,
    port: int = 8080,
    *,
    say: Callable[[str], None] = lambda text: print(text, flush=True),
) -> int:
    """Serve the models of a folder until Ctrl-C or SIGTERM; says ``ready: URL`` of each.

    directory: an exported model, or a folder of such. port: on 127.0.0.1; 0 takes a free one.
    Returns the exit code 0. Raises ConfigError for a folder without models, ArchiveError for a
    model that has changed or misses its golden predictions, ServerError for a port in use.
    """
    if not 0 <= port < 65536:
        raise ConfigError(f"port must be from 0 to 65535, not {port}")
    folders = onnx_folders(directory)
    if not folders:
        raise ConfigError(
            f"{directory} holds no exported ONNX model; "
            "make one with: hepdata-adapters export RUN --format onnx -o DIR"
        )
    stopping = threading.Event()
    with signals_set(stopping), _bound(port) as bound, ThreadPoolExecutor(_THREADS) as pool:
        models = _load(folders)
        bound.listen()  # from now on, a client that comes is answered soon
        config = uvicorn.Config(
            app(models, pool),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([bound],), name="hepdata-onnx-rest")
        thread.start()
        try:
            for name in models:
                say(f"ready: http://{_HOST}:{bound.getsockname()[1]}/predictions/{name}")
            while not stopping.wait(0.5):
                if not thread.is_alive():
                    raise ServerError("the HTTP server ended unexpectedly")
        finally:
            server.should_exit = True
            thread.join()
    return 0


def _load(folders: Sequence[Path]) -> dict[str, OnnxModel]:
    models: dict[str, OnnxModel] = {}
    for folder in folders:
        model = OnnxModel(folder)
        if model.name in models:
            raise ConfigError(f"{folder} is a second model {model.name!r}: serve one of them")
        models[model.name] = model
    return models


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # connections of an earlier server that linger in TIME_WAIT are no obstacle
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((_HOST, port))
    except OSError as error:
        bound.close()
        raise ServerError(
            f"port {port} on {_HOST} is in use; choose another, or 0 for any"
        ) from error
    return bound
