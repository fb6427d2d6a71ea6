"""The client of TorchServe, against servers that misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from hepdata_adapters.common.core.errors import ConfigError, EventError
from hepdata_serving import client
from hepdata_serving.errors import ServerError
from hepdata_serving.torchserve.processes import free_ports


class Canned(BaseHTTPRequestHandler):
    """Answers as the class attributes say, and keeps the bodies it got."""

    status = 200
    answer = b"{}"
    bodies: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        content = self.answer
        if content == b"echo":
            predictions = [event["number"] for event in body["instances"]]
            content = json.dumps({"predictions": predictions}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def canned() -> Iterator[Callable[[int, bytes], tuple[str, list[dict[str, Any]]]]]:
    with contextlib.ExitStack() as stack:

        def start(status: int, answer: bytes) -> tuple[str, list[dict[str, Any]]]:
            bodies: list[dict[str, Any]] = []
            handler = type("H", (Canned,), {"status": status, "answer": answer, "bodies": bodies})
            web = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(web.shutdown)
            return f"http://127.0.0.1:{web.server_port}/", bodies

        yield start


def test_client_splits_by_count_and_by_size(canned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, bodies = canned(200, b"echo")
    events = [{"number": number, "values": [0.5] * 10} for number in range(25)]
    assert client.predict(url, events, batch=10) == list(range(25))
    assert [len(body["instances"]) for body in bodies] == [10, 10, 5]
    monkeypatch.setattr(client, "MAX_BODY_BYTES", 250)
    bodies.clear()
    assert client.predict(url, events, batch=10) == list(range(25))
    assert all(len(json.dumps(body)) < 300 for body in bodies)
    assert len(bodies) > 3
    with pytest.raises(EventError, match=r"event 1 cannot be sent: it has \d+ bytes"):
        client.predict(url, [events[0], {"number": 1, "values": [0.5] * 100}])
    assert client.predict(url, []) == []
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        client.predict(url, events, batch=0)


def test_client_sends_numpy_and_nan(canned: Any) -> None:
    url, bodies = canned(200, b"echo")
    event = {"number": np.int64(4), "a": np.array([1.5, np.nan], np.float32), "b": float("inf")}
    assert client.predict(url, [event]) == [4]
    assert bodies == [{"instances": [{"number": 4, "a": [1.5, None], "b": None}]}]
    with pytest.raises(EventError, match="event 0 cannot be sent: Object of type"):
        client.predict(url, [{"number": {1, 2}}])


@pytest.mark.parametrize(
    ("status", "answer", "error", "message"),
    [
        (200, b"{}", ServerError, "did not give 1 predictions"),
        (200, b"<html>", ServerError, "did not give 1 predictions"),
        (200, b'{"predictions": [1, 2]}', ServerError, "did not give 1 predictions"),
        (503, b'{"code": 503, "message": "busy"}', ServerError, "answered 503: busy"),
        (500, b"oops", ServerError, "answered 500: oops"),
        (400, b'{"error": "no"}', ServerError, "answered 400: no"),
        (400, b'{"error": "1 bad", "instances": {"0": "why"}}', EventError, "event 0: why"),
    ],
)
def test_client_says_what_the_server_said(
    status: int, answer: bytes, error: type[Exception], message: str, canned: Any
) -> None:
    url, _ = canned(status, answer)
    with pytest.raises(error, match=message):
        client.predict(url, [{"number": 1}])


def test_client_without_a_server() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ServerError, match="is the server running"):
        client.predict(f"http://127.0.0.1:{port}/", [{}])
