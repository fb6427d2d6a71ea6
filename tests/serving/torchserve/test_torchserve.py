"""A real TorchServe: the same predictions as offline, and faults kept apart."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests

from hepdata_adapters.common.core.errors import ConfigError, EventError
from hepdata_serving import client
from hepdata_serving.errors import ServerError
from hepdata_serving.torchserve.server import TorchServer
from tests.helpers.torchserve import eventually, listening, offline, why_not
from tests.helpers.torchserve_example import example_events, export_example


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServer]:
    """Two models in one server: of one class (seed 0, and 2 as canary), and of three (seed 1)."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("models")
    export_example(folder, "example")
    export_example(folder, "three.classes-1", classes=3, seed=1)
    export_example(folder, "example", seed=2)
    with TorchServer(folder, port=0, log=tmp_path_factory.mktemp("log")) as running:
        # it says that it is ready now, so the very first request must be answered
        first = requests.post(running.urls["example"], json={"instances": []}, timeout=30)
        assert (first.status_code, first.json()) == (200, {"predictions": []})
        yield running


# --- predictions -------------------------------------------------------------------------------


def test_a_thousand_raw_events_are_predicted_as_offline(server: TorchServer) -> None:
    events = example_events(1000, seed=5)
    assert any(np.isnan(event["MET"]) for event in events)
    assert any(not event["Jet_pt"] for event in events)
    assert any(len(event["Jet_pt"]) > 30 for event in events)
    served = client.predict(server.urls["example"], events, batch=300)
    np.testing.assert_allclose(served, offline(events), rtol=0, atol=1e-6)


def test_two_models_do_not_clash(server: TorchServer) -> None:
    events = example_events(20, seed=6)
    served = client.predict(server.urls["three.classes-1"], events)
    np.testing.assert_allclose(served, offline(events, 3, 1), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="several models"):
        _ = server.url


def test_an_export_alone_moves_no_request(server: TorchServer) -> None:
    events = example_events(20, seed=8)
    assert server.urls["example"].endswith("/predictions/example")
    assert server.canary_urls == {"example": server.urls["example"] + "/2.0"}
    for url, seed in (
        (server.urls["example"], 0),
        (server.urls["example"] + "/1.0", 0),
        (server.canary_urls["example"], 2),
    ):
        np.testing.assert_allclose(
            client.predict(url, events), offline(events, seed=seed), rtol=0, atol=1e-6
        )
    assert np.abs(offline(events) - offline(events, seed=2)).max() > 0.01


def test_bad_requests_among_forty_at_once_spoil_none(server: TorchServer) -> None:
    url = server.urls["example"]
    events = example_events(120, seed=7)
    expected = offline(events)
    bad: dict[int, tuple[bytes, str]] = {
        3: (b"{broken", "not valid JSON"),
        11: (json.dumps({"instances": [events[0], {"MET": 1.0}]}).encode(), "is missing"),
        17: (b"[]", "must be an object"),
        26: (json.dumps({"instances": [events[1] | {"nJet": "x"}]}).encode(), "takes numbers"),
        38: (json.dumps({"instances": [events[1] | {"HT": None}]}).encode(), "NaN or infinity"),
    }
    together = threading.Barrier(40)

    def ask(number: int) -> requests.Response:
        mine = events[3 * number : 3 * number + 3]
        content = bad[number][0] if number in bad else json.dumps({"instances": mine}).encode()
        together.wait(30)
        headers = {"Content-Type": "application/json"}
        return requests.post(url, data=content, headers=headers, timeout=60)

    for _ in range(3):
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(ask, range(40)))
        for number, answer in enumerate(answers):
            if number in bad:
                assert answer.status_code == 400
                assert bad[number][1] in answer.text
            else:
                assert answer.status_code == 200, answer.text
                mine = expected[3 * number : 3 * number + 3]
                np.testing.assert_allclose(answer.json()["predictions"], mine, rtol=0, atol=1e-6)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None, "a/b;c=d"])
def test_any_content_type_is_read_as_json(content_type: str | None, server: TorchServer) -> None:
    events = example_events(2)
    headers = {"Content-Type": content_type} if content_type else {}
    content = json.dumps({"instances": events}).encode()
    answer = requests.post(server.urls["example"], data=content, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    np.testing.assert_allclose(answer.json()["predictions"], offline(events), rtol=0, atol=1e-6)


@pytest.mark.parametrize("word", ["null", "NaN"])
def test_null_and_nan_are_the_same_missing_value(word: str, server: TorchServer) -> None:
    def ask(**changes: Any) -> requests.Response:
        events = example_events(2, seed=1)
        events[1] |= changes
        content = json.dumps({"instances": events}).replace("NaN", word)
        headers = {"Content-Type": "application/json"}
        return requests.post(server.urls["example"], content, headers=headers, timeout=30)

    nan = float("nan")
    missing = {"MET": nan, "Jet_pt": [nan, 30.0]}
    answer = ask(**missing)
    assert answer.status_code == 200, answer.text
    events = example_events(2, seed=1)
    events[1] |= missing
    np.testing.assert_allclose(answer.json()["predictions"], offline(events), rtol=0, atol=1e-6)
    for changes, reason in (
        ({"nJet": nan}, f"branch 'nJet' takes integers, not {word}"),
        ({"trigger": nan}, f"branch 'trigger' takes true or false, not {word}"),
        ({"HT": nan}, "HT holds NaN or infinity"),
    ):
        answer = ask(**changes)
        assert (answer.status_code, answer.json()["instances"]) == (400, {"1": reason})


def test_compressed_bodies_are_read_among_others(server: TorchServer) -> None:
    events = example_events(40, seed=3)
    expected = offline(events)
    plain = [json.dumps({"instances": [event]}).encode() for event in events]
    bad: dict[int, tuple[str, bytes, int, str]] = {
        4: ("gzip", plain[4], 400, "the body is not valid gzip: Not a gzipped file"),
        9: ("gzip", gzip.compress(plain[9])[:-9], 400, "the body is not valid gzip"),
        15: ("br", plain[15], 415, "Content-Encoding 'br' is not known here: send gzip"),
        22: ("gzip", gzip.compress(bytes(10**8), 1), 413, "larger than 16777216 bytes when"),
    }
    together = threading.Barrier(40)

    def ask(number: int) -> requests.Response:
        content = gzip.compress(plain[number]) if number % 2 else plain[number]
        encoding = "gzip" if number % 2 else "identity"
        if number in bad:
            encoding, content, *_ = bad[number]
        together.wait(30)
        headers = {"Content-Type": "application/json", "content-encoding": encoding}
        return requests.post(server.urls["example"], data=content, headers=headers, timeout=60)

    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(ask, range(40)))
    for number, answer in enumerate(answers):
        if number in bad:
            assert answer.status_code == bad[number][2]
            assert bad[number][3] in answer.json()["error"]
        else:
            assert answer.status_code == 200, answer.text
            (score,) = answer.json()["predictions"]
            np.testing.assert_allclose(score, expected[number], rtol=0, atol=1e-6)


@pytest.mark.parametrize("more", [b"", b"=", b"&x=1"])
def test_json_that_calls_itself_a_form_is_told_how_to_be_sent(
    more: bytes, server: TorchServer
) -> None:
    content = json.dumps({"instances": example_events(1, seed=1)}).encode() + more
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d has it
    answer = requests.post(server.urls["example"], data=content, headers=headers, timeout=30)
    assert answer.status_code == 415
    assert "add -H 'Content-Type: application/json'" in answer.json()["error"]


def test_a_field_of_a_form_is_read(server: TorchServer) -> None:
    events = example_events(2, seed=1)
    body = json.dumps({"instances": events})
    for answer in (
        requests.post(server.urls["example"], data={"data": body}, timeout=30),
        requests.post(server.urls["example"], files={"body": ("b", body)}, timeout=30),
    ):
        assert answer.status_code == 200, answer.text
        np.testing.assert_allclose(answer.json()["predictions"], offline(events), atol=1e-6)


def test_the_client_names_the_bad_event(server: TorchServer) -> None:
    events = example_events(10)
    events[7] |= {"vertex": [1.0]}
    with pytest.raises(EventError, match=r"event 7: branch 'vertex' takes 3 numbers, not 1"):
        client.predict(server.urls["example"], events, batch=4)
    with pytest.raises(ServerError, match=r"answered 404: Model not found: nothing"):
        client.predict(server.urls["example"].replace("example", "nothing"), events)


# --- the server --------------------------------------------------------------------------------


def test_too_large_a_request_is_refused_and_the_server_lives_on(server: TorchServer) -> None:
    # the server closes the connection while the body is sent, or answers 413 before that
    with contextlib.suppress(requests.ConnectionError):
        huge = b" " * (20 * 1024 * 1024)
        assert requests.post(server.urls["example"], data=huge, timeout=60).status_code == 413
    assert len(client.predict(server.urls["example"], example_events(2))) == 2


def test_clients_that_leave_are_no_fault(server: TorchServer) -> None:
    host, port = server.urls["example"].split("/")[2].split(":")
    whole = json.dumps({"instances": example_events(300)}).encode()
    head = f"POST /predictions/example HTTP/1.1\r\nHost: x\r\nContent-Length: {len(whole)}\r\n\r\n"
    log = server.log
    before = log.read_text()
    for sent in (head.encode(), head.encode() + whole[:50], head.encode() + whole, b""):
        for reset in (True, False):
            with socket.create_connection((host, int(port)), timeout=10) as peer:
                peer.sendall(sent)
                if reset:  # an RST, as of a client that was killed
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert len(client.predict(server.urls["example"], example_events(2))) == 2
    time.sleep(0.3)
    assert "Exception" not in log.with_name("console.log").read_text()
    lines = log.read_text().removeprefix(before).splitlines()
    assert lines
    for line in lines:  # one line each, without a traceback
        assert re.fullmatch(r"[-0-9T:,]+ connection closed - .*Connection reset by peer", line)


def test_the_page_of_metrics_counts_requests(server: TorchServer) -> None:
    client.predict(server.urls["example"], example_events(2))
    counted = re.compile(r'^ts_inference_requests_total{model_name="example",.*} [1-9]', re.M)

    def found() -> bool:
        page = requests.get(server.others["metrics"], timeout=10)
        return page.status_code == 200 and counted.search(page.text) is not None

    assert eventually(found, 10)


def test_only_this_machine_is_served_and_models_cannot_be_changed(server: TorchServer) -> None:
    assert server.pid
    addresses = listening(server.pid)
    assert len(addresses) >= 5
    assert {address for address, _ in addresses} == {"127.0.0.1"}
    changed = 0
    for _, port in addresses:
        with contextlib.suppress(requests.RequestException):
            base = f"http://127.0.0.1:{port}/models"
            answers = [
                requests.post(base, params={"url": "http://127.0.0.1:1/x.mar"}, timeout=5),
                requests.delete(f"{base}/example", timeout=5),
            ]
            changed += sum(answer.status_code < 400 for answer in answers)
    assert changed == 0
    assert len(client.predict(server.urls["example"], example_events(1))) == 1
