"""A TorchServe that stops, is ended, dies or refuses its model leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving import client
from hepdata_serving.archive import zip_bytes
from hepdata_serving.errors import ServerError
from hepdata_serving.integrity import SUMS, sums_text
from hepdata_serving.torchserve.processes import free_ports, live_members, port_is_free
from hepdata_serving.torchserve.server import TorchServer
from tests.helpers.torchserve import (
    eventually,
    line_within,
    listening,
    needs_torchserve,
    own_temporary_folder,
    serving,
)
from tests.helpers.torchserve_example import example_events, export_example

MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture
def own_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_temporary_folder(monkeypatch) as folder:
        yield folder


@needs_torchserve
def test_stop_leaves_no_process_port_or_file(tmp_path: Path, own_tmp: Path) -> None:
    export_example(tmp_path / "models")
    files = {path.name for path in (tmp_path / "models").rglob("*")}
    (port,) = free_ports(1)
    with TorchServer(tmp_path / "models", port, workers=2, log=tmp_path / "log") as server:
        assert server.url == f"http://127.0.0.1:{port}/predictions/example"
        group = server.pid
        assert group
        children = psutil.Process(group).children(recursive=True)
        assert len(children) >= 2
        assert len(list(own_tmp.iterdir())) == 1
        assert len(client.predict(server.url, example_events(3))) == 3
        with pytest.raises(ServerError, match=f"port {port} on 127.0.0.1 is in use"):
            TorchServer(tmp_path / "models", port).start()
        with pytest.raises(ServerError, match="already running"):
            server.start()
    assert live_members(group) == []
    assert not any(child.is_running() and child.status() != "zombie" for child in children)
    assert port_is_free(port)
    assert list(own_tmp.iterdir()) == []
    assert {path.name for path in (tmp_path / "models").rglob("*")} == files
    assert (tmp_path / "log" / "torchserve.log").is_file()
    server.stop()  # harmless


@needs_torchserve
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_serve_leaves_nothing(
    number: signal.Signals, tmp_path: Path, own_tmp: Path
) -> None:
    export_example(tmp_path)
    with serving(tmp_path) as process:
        assert process.stdout
        assert process.stderr
        others: dict[str, str] = {}
        if number is signal.SIGINT:
            ready = line_within(process.stdout, 120)
            url = re.fullmatch(r"ready: (http://127\.0\.0\.1:\d+/predictions/example)\n", ready)
            assert url, ready + process.stderr.read()
            assert len(client.predict(url[1], example_events(3))) == 3
            for what in ("management", "metrics", "grpc", "grpc management"):
                line = line_within(process.stdout, 10)
                assert line.startswith(f"ready: {what} "), line
                others[what] = line.removeprefix(f"ready: {what} ").strip()
            answer = requests.get(others["management"], timeout=10).json()
            assert [model["modelName"] for model in answer["models"]] == ["example"]
            told = {url[1], *others.values()}
            java = psutil.Process(process.pid).children()
            # every port that is open is told
            assert {re.findall(r"127\.0\.0\.1:(\d+)", address)[0] for address in told} == {
                str(port) for child in java for _, port in listening(os.getpgid(child.pid))
            }
        children: list[psutil.Process] = []

        def started() -> bool:
            children[:] = psutil.Process(process.pid).children(recursive=True)
            with contextlib.suppress(psutil.Error):
                return any("--python" in child.cmdline() for child in children)
            return False

        # SIGTERM comes while Java is still starting
        assert eventually(started)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    assert list(own_tmp.iterdir()) == []


@needs_torchserve
def test_a_model_that_misses_its_golden_predictions_is_not_served(
    tmp_path: Path, own_tmp: Path
) -> None:
    path = export_example(tmp_path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    golden = json.loads(files["golden.json"])
    golden["predictions"][2] = 0.125
    files |= {"golden.json": json.dumps(golden).encode()}
    inside = {name: data for name, data in files.items() if name not in (SUMS, MANIFEST)}
    path.write_bytes(zip_bytes(files | {SUMS: sums_text(inside).encode()}))
    server = TorchServer(tmp_path, 0)
    with pytest.raises(ServerError, match=r"golden event 2: the model predicts .*, not 0.125$"):
        server.start()
    assert server.pid is None
    assert list(own_tmp.iterdir()) == []


@needs_torchserve
def test_a_server_that_dies_is_noticed(tmp_path: Path) -> None:
    export_example(tmp_path)
    with TorchServer(tmp_path, 0) as server:
        group = server.pid
        assert group
        os.kill(group, signal.SIGKILL)
        with pytest.raises(ServerError, match="ended unexpectedly"):
            server.wait(lambda seconds: bool(time.sleep(seconds / 10)))
    assert eventually(lambda: live_members(group) == [])


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no model archive"):
        TorchServer(tmp_path)
