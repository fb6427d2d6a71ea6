"""TF Serving's REST interface: paths, statuses and bodies as its documentation gives them.

A path that is none of its own gets 404, one below ``/v1/`` that is malformed 400; every error's
body is ``{"error": "..."}``. Bodies may be compressed with gzip. Unlike TF Serving, an unknown
input in the column format is an error, and the status of a label is that of its version alone, as
documented.
"""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import Executor
from urllib.parse import unquote

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.model_pb2 import ModelSpec

from hepdata_serving.errors import BodyError
from hepdata_serving.incoming import MAX_BODY_BYTES, decoded
from hepdata_serving.tfserving import bodies
from hepdata_serving.tfserving.engine import Engine
from hepdata_serving.tfserving.faults import RequestError, invalid

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE | re.ASCII)
_VERSION_DIGITS = 18  # any such number is an int64


def rest_app(engine: Engine, pool: Executor) -> ASGIApp:
    """The interface to these models as an ASGI application; models run in the pool."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await _body(request)
        except ClientDisconnect:
            return  # nobody waits for an answer any more
        if body is None:
            response = _error(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
            response.headers["Connection"] = "close"  # the rest of the body is not read
        else:
            path = scope["raw_path"].decode("ascii", "replace")
            loop = asyncio.get_running_loop()
            try:
                encoding = request.headers.get("content-encoding", "")
                response = await loop.run_in_executor(
                    pool, _respond, engine, request.method, path, body, encoding
                )
            except Exception:
                await _error(500, "internal error, see the server's log")(scope, receive, send)
                raise
        await response(scope, receive, send)

    return app


async def _body(request: Request) -> bytes | None:
    """The whole body, None if it is too large."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _respond(engine: Engine, method: str, path: str, body: bytes, encoding: str) -> Response:
    try:
        return _json(_answer(engine, method, path, decoded(body, encoding, MAX_BODY_BYTES)))
    except BodyError as fault:
        return _error(fault.status, str(fault))
    except RequestError as fault:
        return _error(fault.http_status, str(fault))


def _answer(engine: Engine, method: str, path: str, body: bytes) -> bytes:
    if not path.lower().startswith("/v1/"):
        raise RequestError(
            grpc.StatusCode.NOT_FOUND, f"nothing is at {path!r}; models are at /v1/models/<name>"
        )
    if method == "POST" and (found := _POST.fullmatch(path)):
        spec = _spec(found)
        if found["method"].lower() != "predict":
            raise RequestError(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{found['method']} takes tf.Example, which these models do not: use predict",
            )
        return _predict(engine, spec, body)
    if method == "GET" and (found := _GET.fullmatch(path)):
        spec = _spec(found)
        return _metadata(engine, spec) if found["metadata"] else _status(engine, spec)
    raise invalid(f"Malformed request: {method} {path}")


def _predict(engine: Engine, spec: ModelSpec, content: bytes) -> bytes:
    body = bodies.parse(content)
    servable = engine.find(spec)
    inputs = bodies.inputs(body, servable.signature(body.signature_name))
    return bodies.answer(servable.predict(inputs, body.signature_name), body.by_row)


def _status(engine: Engine, spec: ModelSpec) -> bytes:
    return json.dumps(_as_json(engine.status(spec)), indent=1).encode()


def _metadata(engine: Engine, spec: ModelSpec) -> bytes:
    """TF Serving writes the map of signatures without the ``@type`` of an ``Any``."""
    servable = engine.find(spec)
    signatures = SignatureDefMap(signature_def=dict(servable.signatures))
    which = ModelSpec(name=servable.model, version={"value": servable.version})
    content = {
        "model_spec": _as_json(which),
        "metadata": {"signature_def": _as_json(signatures)},
    }
    return json.dumps(content, indent=1).encode()


def _spec(found: re.Match[str]) -> ModelSpec:
    spec = ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        digits = found["version"]
        if len(digits) > _VERSION_DIGITS:
            raise invalid(f"{digits[:40]} is too large for a version")
        spec.version.value = int(digits)
    elif found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _as_json(message: Message) -> object:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json(json.dumps({"error": message}).encode(), status)
