"""Bodies and paths of REST that do not fit are refused by name and spoil no other request."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving")

import numpy as np
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.tfserving import rest
from hepdata_serving.tfserving.server import TFServer
from tests.helpers.tfserving import GOOD, MISSING, expected, inputs_of, post, rows_of, serve_models
from tests.helpers.tfserving_example import small_events


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TFServer]:
    with serve_models(tmp_path_factory) as running:
        yield running


def test_bad_requests_among_forty_at_once_spoil_none(server: TFServer) -> None:
    events = small_events(120, seed=7)
    wanted = expected(events)
    bad: dict[int, tuple[bytes, str]] = {
        3: (b"{broken", "not valid JSON"),
        11: (json.dumps({"instances": [rows_of(events[:1])[0], {"MET": 1.0}]}).encode(), "missing"),
        17: (b"[]", "must be an object"),
        26: (json.dumps({"instances": [rows_of(events[:1])[0] | {"HT": "x"}]}).encode(), "'HT'"),
        38: (json.dumps({"instances": [rows_of(events[:1])[0] | {"HT": np.nan}]}).encode(), "HT"),
    }
    together = threading.Barrier(40)

    def ask(number: int) -> requests.Response:
        mine = events[3 * number : 3 * number + 3]
        body = bad[number][0] if number in bad else {"instances": rows_of(mine)}
        together.wait(30)
        return post(server.urls["tth"], body)

    for _ in range(3):
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(ask, range(40)))
        for number, answer in enumerate(answers):
            if number in bad:
                assert answer.status_code == 400
                assert bad[number][1] in answer.json()["error"]
            else:
                assert answer.status_code == 200, answer.text
                mine = wanted[3 * number : 3 * number + 3]
                np.testing.assert_allclose(answer.json()["predictions"], mine, rtol=0, atol=1e-6)


# --- inputs ------------------------------------------------------------------------------------


BAD_VALUES: list[tuple[str, Any, str]] = [
    ("MET", MISSING, "input 'MET' is missing"),
    ("Jet_pt_length", MISSING, "input 'Jet_pt_length' is missing"),
    ("not_a_branch", [1, 2], "input 'not_a_branch' is not one of the model"),
    ("MET", ["a", "b"], "input 'MET' takes numbers, not a string"),
    ("MET", [1.0, True], "input 'MET' takes numbers, not true"),
    ("MET", [{"b64": "AAAA"}, 1], "input 'MET' takes numbers, not an object"),
    ("MET", [1e39, 1.0], "input 'MET': 1e+39 is not in the range of float32"),
    ("MET", [10**400, 1], "input 'MET': 1000000000000000000000000000000000000000 is not in"),
    ("event_number", [1.5, 2], "input 'event_number' takes integers, not 1.5"),
    ("event_number", [2**63, 2], "input 'event_number': 9223372036854775808 is not in the range"),
    ("event_number", [1, None], "input 'event_number' takes integers, not null (instance 1)"),
    ("event_number", [1, float("nan")], "takes integers, not NaN (instance 1)"),
    ("Jet_pt_length", [None, 1], "input 'Jet_pt_length' takes integers, not null (instance 0)"),
    ("trigger", [None, True], "input 'trigger' takes true or false, not null (instance 0)"),
    ("vertex", [[0.0, 0.0, 0.0], [1.0, "a", 1.0]], "not a string (instance 1)"),
    ("HT", [1.0, None], "HT holds NaN or infinity (event 1 of those given)"),
    ("trigger", [1, 0], "input 'trigger' takes true or false, not 1"),
    ("MET", [[1.0], [2.0]], "input 'MET' takes the shape (n,), not (2, 1)"),
    ("MET", 1.0, "input 'MET' takes the shape (n,), not ()"),
    ("vertex", [[1.0, 2.0], [1.0, 2.0]], "input 'vertex' takes the shape (n, 3), not (2, 2)"),
    ("Jet_pt", [1.0, 2.0], "input 'Jet_pt' takes the shape (n, ?), not (2,)"),
    ("Jet_pt", [[1.0], [2.0, 3.0]], "input 'Jet_pt' has lists of 1 and of 2 values; pad them"),
    ("Jet_pt", [[1.0], 2.0], "input 'Jet_pt' mixes lists and numbers"),
    ("MET", [1.0], "rows, input"),
    ("HT", [float("nan"), 1.0], "HT holds NaN or infinity (event 0 of those given)"),
    ("Jet_pt_length", [3, 0], "Jet_pt_length holds 3, which is not in 0..2"),
    ("Lep_eta_length", [-1, 0], "Lep_eta_length holds -1, which is not in 0..1"),
]


def changed(name: str, value: Any) -> dict[str, Any]:
    inputs = {**GOOD, name: value}
    return {key: given for key, given in inputs.items() if given is not MISSING}


@pytest.mark.parametrize(("name", "value", "message"), BAD_VALUES)
def test_a_bad_input_gets_a_400_with_its_name(
    name: str, value: Any, message: str, server: TFServer
) -> None:
    answer = post(server.urls["tth"], {"inputs": changed(name, value)})
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert name in answer.json()["error"]


@pytest.mark.parametrize("by_row", [True, False])
def test_null_and_nan_are_the_same_missing_value(by_row: bool, server: TFServer) -> None:
    events = small_events(2, seed=1)
    events[0] |= {"MET": float("nan"), "Jet_pt": [float("nan"), 30.0]}
    inputs = {name: values.tolist() for name, values in inputs_of(events).items()}
    sent = {"instances": rows_of(events)} if by_row else {"inputs": inputs}
    answers = []
    for word in ("null", "NaN"):
        content = json.dumps(sent).replace("NaN", word).encode()
        assert word.encode() in content
        answer = post(server.urls["tth"], content)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json()["predictions" if by_row else "outputs"])
    assert answers[0] == answers[1]
    np.testing.assert_allclose(answers[0], expected(events), rtol=0, atol=1e-5)


# --- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"inputs": 1e999}', "1e999 is too large a number"),
        (b"{" + b'"a":{' * 100_000, "not valid JSON"),
        (b'"inputs"', "must be an object"),
        (b"{}", "'instances' or 'inputs'"),
        (b'{"inputs": 1, "instances": [1]}', "'instances' or 'inputs', and not both"),
        (b'{"instances": []}', "at least one instance"),
        (b'{"instances": {"MET": 1}}', "'instances' must be a list"),
        (b'{"instances": [[1.0]]}', "'instances' must hold objects"),
        (b'{"inputs": [1.0]}', "'inputs' must be an object"),
        (b'{"instances": [{"MET": 1}]}', "input 'HT' is missing"),
        (b'{"signature_name": 1, "inputs": {}}', "'signature_name' must be a string"),
        (b'{"signature_name": "x", "inputs": {}}', "no signature 'x'"),
        (b'{"signature_name": "__saved_model_init_op", "inputs": {}}', "no signature"),
    ],
)
def test_a_malformed_body_gets_a_400(body: bytes, message: str, server: TFServer) -> None:
    answer = post(server.urls["tth"], body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_body_too_large_gets_a_413_and_the_server_lives_on(
    server: TFServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "MAX_BODY_BYTES", 1000)
    answer = post(server.urls["tth"], b" " * 2000)
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "the body is larger than 1000 bytes"},
    )
    assert post(server.urls["tth"], {"inputs": GOOD}).status_code == 200


def post_as(encoding: str, url: str, content: bytes) -> requests.Response:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    return requests.post(url, data=content, headers=headers, timeout=60)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity"])
def test_a_compressed_body_is_read(encoding: str, server: TFServer) -> None:
    url, plain = server.urls["tth"], json.dumps({"inputs": GOOD}).encode()
    sent = plain if encoding == "identity" else gzip.compress(plain)
    answer = post_as(encoding, url, sent)
    assert (answer.status_code, answer.json()) == (200, post(url, plain).json())


# what is sent is made in the test: gzip writes the time, and a name of a test must not change
@pytest.mark.parametrize(
    ("encoding", "made", "status", "message"),
    [
        ("gzip", "plain", 400, "the body is not valid gzip: Not a gzipped file"),
        ("gzip", "cut", 400, "the body is not valid gzip"),
        ("gzip", "bomb", 413, "larger than 16777216 bytes when it is"),
        ("gzip", "broken", 400, "not valid JSON"),
        ("br", "plain", 415, "Content-Encoding 'br' is not known here: send gzip"),
        ("gzip, gzip", "plain", 415, "send gzip, or no encoding"),
    ],
)
def test_a_compressed_body_that_cannot_be_read(
    encoding: str, made: str, status: int, message: str, server: TFServer
) -> None:
    plain = b'{"inputs": {}}'
    content = {
        "plain": plain,
        "cut": gzip.compress(plain)[:-9],
        "bomb": gzip.compress(bytes(10**8), 1),
        "broken": gzip.compress(b"{broken"),
    }[made]
    answer = post_as(encoding, server.urls["tth"], content)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert post(server.urls["tth"], {"inputs": GOOD}).status_code == 200


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
documents = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "x", "b64"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    changes=st.dictionaries(st.sampled_from(list(GOOD)), documents, max_size=2),
    document=st.dictionaries(
        st.sampled_from(["inputs", "instances", "signature_name"]), documents | st.just("prepared")
    ),
)
def test_any_json_is_answered_or_refused(
    changes: dict[str, Any], document: dict[str, Any], server: TFServer
) -> None:
    rows = [{key: values[row] for key, values in GOOD.items()} for row in range(2)]
    bodies = [document, {"inputs": GOOD | changes}, {"instances": [rows[0], rows[1] | changes]}]
    for body in bodies:
        answer = post(server.urls["tth"], body)
        if answer.status_code != 200:
            assert answer.status_code == 400, (body, answer.text)
            assert list(answer.json()) == ["error"]


# --- paths -------------------------------------------------------------------------------------


def test_several_models_have_no_one_url(server: TFServer) -> None:
    assert list(server.urls) == ["three", "tth"]
    with pytest.raises(ConfigError, match="several models: three, tth"):
        _ = server.url


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/nothing:predict", 404, "no model 'nothing' is served, only: three"),
        ("POST", "/v1/models/tth/versions/9:predict", 404, "version 9 of model 'tth' is not"),
        ("POST", f"/v1/models/tth/versions/{10**30}:predict", 400, "too large for a version"),
        ("POST", "/v1/models/tth/labels/no:predict", 400, "no label 'no'; its labels: canary, st"),
        ("POST", "/v1/models/tth:classify", 501, "classify takes tf.Example"),
        ("POST", "/v1/models/tth:regress", 501, "use predict"),
        ("POST", "/v1/models/tth:other", 400, "Malformed request: POST /v1/models/tth:other"),
        ("GET", "/v1/models/tth:predict", 400, "Malformed request"),
        ("DELETE", "/v1/models/tth", 400, "Malformed request"),
        ("GET", "/v1/models/nothing", 404, "could not find any version of model 'nothing'"),
        ("GET", "/v1/models/tth/versions/9", 404, "could not find version 9 of model 'tth'"),
        ("GET", "/v1/models/tth/labels/no/metadata", 400, "no label 'no'"),
        ("GET", "/v1/models/nothing/metadata", 404, "no model 'nothing'"),
        ("GET", "/v1/models/../../etc/passwd", 404, "nothing is at"),
        ("GET", "/", 404, "models are at /v1/models/<name>"),
    ],
)
def test_a_path_that_is_wrong(
    method: str, path: str, status: int, message: str, server: TFServer
) -> None:
    base = server.urls["tth"].partition("/v1/")[0]
    body = json.dumps({"inputs": GOOD})
    answer = requests.request(method, base + path, data=body, timeout=60)
    assert answer.status_code == status
    assert message in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"
