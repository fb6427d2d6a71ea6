"""A server for TF Serving's models that stops, by itself or by a signal, leaves nothing behind."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving")

import requests

from hepdata_serving.errors import ServerError
from hepdata_serving.tfserving import client
from hepdata_serving.tfserving.server import TFServer
from tests.helpers.servers import free_port
from tests.helpers.tfserving import GOOD, exported_models, get
from tests.helpers.tfserving_example import small_events


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_models(tmp_path_factory)


def test_stop_leaves_no_thread_and_no_port(exported: Path) -> None:
    before = set(threading.enumerate())
    port = free_port()
    server = TFServer(exported, port, 0, poll=60)
    with pytest.raises(ServerError, match="not running"):
        _ = server.urls
    with server:
        assert server.urls["tth"] == f"http://127.0.0.1:{port}/v1/models/tth:predict"
        assert server.url == server.urls["tth"]
        with pytest.raises(ServerError, match="already running"):
            server.start()
        with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1 is in use"):
            TFServer(exported, port, 0).start()
        taken = int(server.grpc_address.rpartition(":")[2])
        with pytest.raises(ServerError, match=f"port {taken} on 127.0.0.1 is in use"):
            TFServer(exported, 0, taken).start()
        with requests.Session() as kept_alive:
            kept_alive.post(server.urls["tth"], json={"inputs": GOOD}, timeout=60)
            server.stop()
    assert set(threading.enumerate()) == before
    for number in (port, taken):
        with pytest.raises(requests.ConnectionError):
            get(f"http://127.0.0.1:{number}/")
    server.stop()  # harmless
    with server:  # and it can start again
        assert client.predict(server.urls["tth"], small_events(1))


SERVE = (
    "import sys; from hepdata_serving.tfserving.server import serve; "
    "sys.exit(serve(sys.argv[1], 0, grpc_port=0))"
)


def test_a_signal_ends_serve(exported: Path) -> None:
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(exported)],
        env=os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            lines: queue.Queue[str] = queue.Queue()
            reader = threading.Thread(target=lambda: [lines.put(x) for x in process.stdout or ()])
            reader.start()
            ready = [lines.get(timeout=120).strip() for _ in range(2)]
            assert re.fullmatch(r"ready: http://127\.0\.0\.1:\d+/v1/models/tth:predict", ready[0])
            assert re.fullmatch(r"ready: grpc 127\.0\.0\.1:\d+", ready[1])
            url = ready[0].removeprefix("ready: ")
            assert len(client.predict(url, small_events(3))) == 3
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            reader.join(60)
            assert lines.empty()
            assert process.stderr
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()
