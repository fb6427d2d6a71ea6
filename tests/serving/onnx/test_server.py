"""predict and serve with ONNX folders, where no framework is installed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import requests
import uproot

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_serving import client
from hepdata_serving.answers import answer_batch, predict_events
from hepdata_serving.onnx.predict import predict_onnx
from tests.helpers.onnx_folders import exported_model
from tests.helpers.torchserve_example import ExampleScorer, eager, example_events, example_transform


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory)


COMMAND = (
    "import sys; sys.modules['torch'] = sys.modules['tensorflow'] = None; "
    "from hepdata_adapters.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def command(*words: str) -> subprocess.Popen[str]:
    """The command line where no framework is installed."""
    search = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        env=os.environ | {"PYTHONPATH": search},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- files -------------------------------------------------------------------------------------


def write_events(path: Path, events: list[dict[str, Any]], **changed: Column) -> str:
    """The events as a file with the branches of the model; ``changed`` replaces some."""
    columns, faults = columns_from_events(events, example_transform())
    assert not faults
    arrays = {
        name: ak.Array(column.to_lists()) if isinstance(column, Jagged) else column
        for name, column in (columns | changed).items()
    }
    for name in ("Jet_pt", "Lep_eta"):
        arrays[name] = ak.values_astype(arrays[name], np.float32)
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {name: array_type(array) for name, array in arrays.items()})
        tree.extend(arrays)
    return f"{path}:Events"


def array_type(array: Any) -> Any:
    if isinstance(array, ak.Array):
        return array.type.content
    return (array.dtype, array.shape[1:]) if array.ndim > 1 else array.dtype


def test_files_are_predicted_and_a_bad_event_is_named(exported: Path, tmp_path: Path) -> None:
    events = example_events(60, seed=4)
    file = write_events(tmp_path / "events.root", events)
    output = tmp_path / "scores.root"
    process = command("predict", str(exported), file, "-o", str(output))
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert said == f"{output}: 60 events, all scored: a graph knows no selection and no split\n"
    with uproot.open(output) as scores:
        found = scores["scores"].arrays(library="np")
    transform = example_transform()
    offline = predict_events(events, transform, eager(ExampleScorer(transform.num_features)))
    np.testing.assert_allclose(found["score"], offline, rtol=0, atol=1e-6)
    assert found["entry"].tolist() == list(range(60))

    energies = np.array([event["HT"] for event in events])
    energies[41] = np.nan
    bad = write_events(tmp_path / "bad.root", events, HT=energies)
    for words, reason in (
        ((bad,), "the model refuses an event: HT holds NaN or infinity [file "),
        ((file, "--all"), "an ONNX graph knows no samples, selections or splits"),
    ):
        process = command("predict", str(exported.parent), *words, "-o", str(tmp_path / "b.root"))
        _, errors = process.communicate(timeout=120)
        assert process.returncode != 0
        assert reason in errors
        assert "Traceback" not in errors
        assert not (tmp_path / "b.root").exists()
    with pytest.raises(DataError) as error:
        predict_onnx(exported, [bad], tmp_path / "b.root")
    assert error.value.entries == (41, 42)


# --- requests ----------------------------------------------------------------------------------


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with command("serve", str(folder), "--port", "0") as process:
        try:
            assert process.stdout
            ready = process.stdout.readline().strip()
            assert re.fullmatch(r"ready: http://127\.0\.0\.1:\d+/predictions/example", ready), (
                ready or (process.stderr and process.stderr.read())
            )
            yield ready.removeprefix("ready: "), process
        finally:
            process.kill()


def test_an_exported_folder_is_served_as_torchserve_answers(exported: Path) -> None:
    transform = example_transform()
    score = eager(ExampleScorer(transform.num_features))
    events = example_events(40, seed=9)
    nan = json.dumps({"instances": [events[1] | {"MET": float("nan")}]}).encode()
    bodies = [
        json.dumps({"instances": events}).encode(),
        b'{"instances": []}',
        nan,
        nan.replace(b"NaN", b"null"),
        json.dumps({"instances": [events[0], events[1] | {"nJet": None}, 3]}).encode(),
        json.dumps({"instances": [events[0] | {"HT": None}]}).encode(),
        b"{broken",
        b"[]",
        b'{"instance": []}',
    ]
    with served(exported.parent) as (url, process):
        for body, wanted in zip(bodies, answer_batch(bodies, transform, score), strict=True):
            for encoding, content in (("identity", body), ("gzip", gzip.compress(body))):
                headers = {"Content-Encoding": encoding}
                answer = requests.post(url, data=content, headers=headers, timeout=30)
                assert answer.status_code == wanted.status
                assert answer.headers["content-type"] == "application/json"
                expected = json.loads(wanted.body)
                if wanted.status == 200:
                    assert answer.json()["predictions"] == pytest.approx(
                        expected["predictions"], abs=1e-6
                    )
                else:
                    assert answer.json() == expected
        np.testing.assert_allclose(
            client.predict(url, events), predict_events(events, transform, score), atol=1e-6
        )
        form = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl -d has it
        assert requests.post(url, data=bodies[0], headers=form, timeout=30).status_code == 200
        for change, content, status, reason in (
            ({"Content-Encoding": "br"}, b"x", 415, "send gzip"),
            ({"Content-Encoding": "gzip"}, b"x", 400, "not valid gzip"),
            ({"Content-Encoding": "gzip"}, gzip.compress(bytes(10**8), 1), 413, "decompressed"),
        ):
            answer = requests.post(url, data=content, headers=change, timeout=60)
            assert (answer.status_code, reason in answer.json()["error"]) == (status, True)
        wrong = requests.post(url.replace("example", "other"), data=b"{}", timeout=30)
        assert (wrong.status_code, wrong.json()["error"]) == (
            404,
            "no model 'other' is served here, only example",
        )
        # the server closes the connection while the body is sent, or answers 413 before that
        with contextlib.suppress(requests.ConnectionError):
            assert requests.post(url, data=b" " * 2**25, timeout=60).status_code == 413
        assert len(client.predict(url, events[:2])) == 2
        port = url.split(":")[2].partition("/")[0]
        second = command("serve", str(exported), "--port", port)
        _, errors = second.communicate(timeout=60)
        assert (second.returncode, f"port {port} on 127.0.0.1 is in use" in errors) == (1, True)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")
