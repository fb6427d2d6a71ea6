"""The client of TF Serving gets the offline predictions and names the event it cannot send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving")

import numpy as np
import uproot

from hepdata_adapters.common.core.errors import ConfigError, DataError, EventError
from hepdata_adapters.common.inference.input_files import raw_events, scan_inputs
from hepdata_adapters.common.inference.raw_events import events_from_columns
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.errors import ServerError
from hepdata_serving.predict import predict_remote
from hepdata_serving.tfserving import client
from hepdata_serving.tfserving.server import TFServer
from tests.conftest import EXAMPLES
from tests.helpers.servers import free_port
from tests.helpers.tfserving import at, expected, serve_models
from tests.helpers.tfserving_example import offline, small_events, small_export, small_scorer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TFServer]:
    with serve_models(tmp_path_factory) as running:
        yield running


def test_files_are_scored_through_the_url_as_offline(tmp_path: Path) -> None:
    vector = VectorTransform(
        features=(
            FeatureTransform(branch="MET_pt", kind="flat", dtype="float32", width=1, factor=0.01),
            FeatureTransform(branch="nJet", kind="flat", dtype="int32", width=1, factor=0.1),
            FeatureTransform(branch="Jet_pt", kind="jagged", dtype="float32", width=6, factor=0.01),
            FeatureTransform(branch="Jet_isBTagged", kind="jagged", dtype="bool", width=6),
            FeatureTransform(branch="Jet_nConstituents", kind="jagged", dtype="int32", width=6),
        )
    )
    transform = Transform.of_vector(vector)
    file = f"{EXAMPLES / 'tth_0.root'}:Events"
    manifest = scan_inputs([file], transform)
    branches = [branch.name for branch in transform.branches]
    events = [
        event
        for unit in raw_events(manifest, branches)
        for event in events_from_columns(unit.columns)
    ]
    scorer = small_scorer(transform.num_features)
    wanted = offline(scorer, transform, events)
    small_export(
        tmp_path / "models", transform=transform, scorer=scorer,
        golden_events=events[:4], golden_predictions=wanted[:4],
    )  # fmt: skip
    with TFServer(tmp_path / "models", 0, 0, poll=None) as server:
        done = predict_remote(server.url, [file], tmp_path / "scores.root", lambda *_: None)
    scores = uproot.open(tmp_path / "scores.root")["scores"]["score"].array(library="np")
    assert done == len(scores) == 2000
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-6)


def test_branches_whose_names_no_input_can_have(tmp_path: Path) -> None:
    vector = VectorTransform(
        features=(
            FeatureTransform(branch="Jet.pt", kind="jagged", dtype="float32", width=2),
            FeatureTransform(branch="lambda", kind="flat", dtype="float32", width=1),
        )
    )
    transform = Transform.of_vector(vector)
    scorer = small_scorer(3)
    events = [{"lambda": 0.5, "Jet.pt": [1.0], "other": 1}, {"lambda": 0.1, "Jet.pt": []}]
    wanted = offline(scorer, transform, events)
    small_export(
        tmp_path, transform=transform, scorer=scorer,
        golden_events=events, golden_predictions=wanted,
    )  # fmt: skip
    with TFServer(tmp_path, 0, 0, poll=None) as server:
        served = client.predict(server.url, events)
    np.testing.assert_allclose(served, wanted, rtol=0, atol=1e-6)


def test_the_client_sends_parts_that_are_small_enough(
    server: TFServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = small_events(30, seed=9)
    events[11] |= {"Jet_pt": [50.0] * 300}
    whole = client.predict(server.urls["tth"], events)
    np.testing.assert_allclose(whole, expected(events), rtol=0, atol=1e-6)
    sent: list[int] = []
    send = client.send

    def counted(*arguments: Any) -> Any:
        sent.append(len(arguments[3]) if len(arguments) > 3 else 0)
        return send(*arguments)

    monkeypatch.setattr(client, "send", counted)
    monkeypatch.setattr(client, "MAX_NUMBERS", 400)
    parts = client.predict(server.urls["tth"], events)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)
    assert len(sent) > 4
    assert max(sent) < 400 * 26
    events[11] |= {"Jet_pt": [50.0] * 3000}
    with pytest.raises(EventError, match="event 11 cannot be sent: it has 3010 numbers"):
        client.predict(server.urls["tth"], events)


def test_the_client_names_event_and_branch(server: TFServer) -> None:
    url = server.urls["tth"]
    events = small_events(10)

    def with_event_7(**change: Any) -> list[dict[str, Any]]:
        return [*events[:7], events[7] | change, *events[8:]]

    without = [*events[:7], {k: v for k, v in events[7].items() if k != "HT"}, *events[8:]]
    with pytest.raises(EventError, match="event 7: branch 'HT' is missing; there are: Jet_pt"):
        client.predict(url, without, batch=4)
    with pytest.raises(EventError, match="event 7: branch 'vertex' takes 3 numbers, not 1"):
        client.predict(url, with_event_7(vertex=[1.0]), batch=4)
    # these two only the server knows
    with pytest.raises(EventError, match=r"event 7: HT holds NaN or infinity$"):
        client.predict(url, with_event_7(HT=None))
    with pytest.raises(EventError, match=r"event 7: Lep_eta has 3 values, at most 2 fit$"):
        client.predict(url, with_event_7(Lep_eta=np.ones(3, np.float32)))


def test_a_file_with_an_event_that_is_refused(
    server: TFServer, tmp_path: Path, make_file: Any
) -> None:
    file = make_file(MET=np.ones(5, np.float32))
    with pytest.raises(
        DataError, match=r"the server refused event 0: branch .* is missing; there are: MET "
    ):
        predict_remote(server.urls["tth"], [str(file)], tmp_path / "out.root", lambda *_: None)


def test_the_client_says_what_is_wrong_with_the_server(server: TFServer) -> None:
    url = server.urls["tth"]
    assert client.predict(url, []) == []
    with pytest.raises(ServerError, match=r"metadata answered 404: no model 'nothing'"):
        client.predict(url.replace("tth", "nothing"), small_events(1))
    with pytest.raises(ServerError, match="is the server running"):
        client.predict(f"http://127.0.0.1:{free_port()}/v1/models/x:predict", small_events(1))
    with pytest.raises(ConfigError, match="it ends in ':predict'"):
        client.predict(at(server, ""), small_events(1))
    with pytest.raises(ConfigError, match="batch must be at least 1"):
        client.predict(url, small_events(1), batch=0)
