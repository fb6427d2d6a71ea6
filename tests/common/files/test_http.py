"""An HTTP server that fails for a while: asked again, within bounds; exact data afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from hepdata_adapters.common.config.dataset_config import Sample
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files import http
from hepdata_adapters.common.files.http import Patience
from hepdata_adapters.common.files.manifest import FileInfo, build_manifest
from hepdata_adapters.common.files.source import Source
from tests.helpers.samples import write_events
from tests.helpers.servers import HttpServer

SOON = Patience(tries=4, first=0.01, longest=2.0)


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        for rntuple in (False, True):
            write_events(running.folder / f"{rntuple}.root", 3000, step=1000, rntuple=rntuple)
        yield running


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", SOON)


def opened(server: HttpServer, rntuple: bool = False) -> FileInfo:
    return build_manifest([Sample(files=[server.url(f"{rntuple}.root")], label=1)]).files[0]


@pytest.mark.parametrize("rntuple", [False, True])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_one_failure_no_longer_ends_the_epoch(server: HttpServer, status: int, rntuple: bool):
    file = opened(server, rntuple)
    local = build_manifest([Sample(files=[str(server.folder / f"{rntuple}.root")], label=1)])
    with Source(["MET"]) as source:
        server.fail((status, {}), (status, {}))
        found = source.read(file, 0, 3000)["MET"]
        assert found.tobytes() == source.read(local.files[0], 0, 3000)["MET"].tobytes()


def test_opening_asks_again_too(server: HttpServer):
    server.fail((503, {}), (502, {}), (504, {}))
    assert opened(server).entries == 3000


@pytest.mark.parametrize("rntuple", [False, True])
def test_the_status_is_in_the_error_when_it_gives_up(server: HttpServer, rntuple: bool):
    file = opened(server, rntuple)
    said = r"\(HTTP 503 Service Unavailable; asked 4 times in \d+ s\) .*, entries 1000 to 3000\]"
    with Source(["MET"], max_bytes=0) as source:  # no page is kept
        source.read(file, 0, 1000)
        server.fail(*[(503, {})] * 40)
        with pytest.raises(FileError, match=said):
            source.read(file, 1000, 3000)
    with pytest.raises(FileError, match=r"HTTP 503"):  # and not: no such file
        opened(server, rntuple)
    server.fail()


def test_what_cannot_pass_is_not_asked_again(server: HttpServer):
    server.fail((403, {}))
    with pytest.raises(FileError, match="403"):
        opened(server)
    server.fail()
    with pytest.raises(FileError, match="no such file"):
        build_manifest([Sample(files=[server.url("missing.root")], label=1)])


def test_retry_after_is_honoured(server: HttpServer):
    server.fail((429, {"Retry-After": "1"}))
    start = time.monotonic()
    opened(server)
    assert time.monotonic() - start >= 1


def test_retry_after_is_honoured_within_bounds():
    patience = Patience()
    assert patience.wait(0, 7.0) == 7
    assert patience.wait(0, 1e9) == patience.longest
    assert patience.wait(0, -5.0) == patience.first
    assert http._retry_after(formatdate(time.time() + 60)) == pytest.approx(60, abs=2)


def test_a_restart_of_five_seconds_is_survived():
    """Whatever the random part of the waits is; and a dead server is told within a minute."""
    patience = Patience()
    shares = [[patience.wait(n, None, share) for n in range(patience.tries - 1)]
              for share in (0.5, 1.0)]  # fmt: skip
    assert sum(shares[0]) > 6
    assert sum(shares[1]) < patience.total
    waits = {patience.wait(3, None) for _ in range(10)}
    assert len(waits) > 1
    assert all(1 <= wait <= 2 for wait in waits)
