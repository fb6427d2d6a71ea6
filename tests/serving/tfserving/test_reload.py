"""A running server takes promotions, roll-backs and new configs, and refuses broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_serving")

import grpc
import numpy as np
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.errors import ArchiveError, ServerError
from hepdata_serving.integrity import folder_sums
from hepdata_serving.tfserving import client, engine, servable
from hepdata_serving.tfserving.aspired import read_config
from hepdata_serving.tfserving.reload import apply_rollout
from hepdata_serving.tfserving.server import TFServer
from hepdata_serving.tfserving.versions import promote, rollback
from tests.helpers.servers import poll
from tests.helpers.tfserving import at, expected, exported_models, get
from tests.helpers.tfserving_example import small_events, small_export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_models(tmp_path_factory)


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "moved"))


def served_version(server: TFServer, label: str | None = None) -> int:
    place = f"/labels/{label}/metadata" if label else "/metadata"
    answer = get(at(server, place))
    return int(answer.json()["model_spec"]["version"]) if answer.status_code == 200 else 0


def states(server: TFServer) -> dict[int, tuple[int, str]]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        asked = GetModelStatusRequest(model_spec={"name": "tth"})
        answer = ModelServiceStub(channel).GetModelStatus(asked, timeout=60)
    return {
        status.version: (status.state, status.status.error_message)
        for status in answer.model_version_status
    }


def serve_only_version_1(folder: Path) -> str:
    """Write such a config; returns the one of both versions that was there."""
    path = folder / "models.config"
    both = path.read_text()
    config = read_config(folder)
    (model,) = config.model_config_list.config
    model.model_version_policy.specific.versions[:] = [1]
    del model.version_labels["canary"]
    path.write_text(str(config))
    return both


def test_a_promotion_reaches_a_running_server(own: Path) -> None:
    with TFServer(own, 0, 0, poll=None) as server:
        assert served_version(server, "stable") == 1
        promote(own, "tth")
        apply_rollout(server.grpc_address, own)
        assert served_version(server, "stable") == 2
        assert get(at(server, "/labels/canary/metadata")).status_code == 400
        assert states(server) == {
            1: (ModelVersionStatus.END, ""),
            2: (ModelVersionStatus.AVAILABLE, ""),
        }
        assert get(at(server, "/versions/1/metadata")).status_code == 404


def test_an_export_alone_moves_no_request_and_rollback_ends_well(own: Path) -> None:
    """Unlabelled requests follow ``stable``; what the server did by itself needs no roll-out."""
    with TFServer(own, 0, 0, poll=0.01) as server:
        assert served_version(server) == 1  # 2, the canary, is loaded too
        small_export(own, "tth")
        poll(lambda: served_version(server, "canary") == 3, 60, "the export was not noticed")
        assert served_version(server) == served_version(server, "stable") == 1
        promote(own)
        poll(lambda: served_version(server) == 3, 60, "the promotion was not served")
        rollback(own)
        poll(lambda: served_version(server) == 1, 60, "the roll-back was not served")
        assert apply_rollout(server.grpc_address, own) == []
        assert served_version(server) == 1


def test_the_folder_is_watched(own: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with TFServer(own, 0, 0, poll=0.01) as server:
        promote(own, "tth")
        poll(lambda: served_version(server, "stable") == 2, 60, "the promotion was not served")
        config = (own / "models.config").read_text()
        (own / "models.config").write_text("model_config_list { config {")
        said = []

        def complained() -> bool:
            said.append(capfd.readouterr().err)
            return "models.config is no ModelServerConfig" in "".join(said)

        poll(complained, 60, "nothing was said of the broken config")
        assert served_version(server, "stable") == 2
        (own / "models.config").write_text(config.replace("stable", "best"))
        poll(
            lambda: get(at(server, "/labels/best")).status_code == 200, 60,
            "the repaired config was not served",
        )  # fmt: skip


def test_a_label_needs_a_loaded_version(own: Path) -> None:
    (model,) = read_config(own).model_config_list.config
    with TFServer(own, 0, 0, poll=None) as server:
        with grpc.insecure_channel(server.grpc_address) as channel:
            service = ModelServiceStub(channel)

            def send(versions: list[int], labels: dict[str, int]) -> None:
                asked = ReloadConfigRequest()
                entry = asked.config.model_config_list.config.add()
                entry.CopyFrom(model)
                entry.model_version_policy.specific.versions[:] = versions
                entry.version_labels.clear()
                entry.version_labels.update(labels)
                service.HandleReloadConfigRequest(asked, timeout=60)

            send([1], {"stable": 1})
            for versions in ([1], [1, 2]):
                # TF Serving sets labels first, so a version cannot be loaded and labelled at once
                with pytest.raises(grpc.RpcError, match="version 2, which is not loaded") as error:
                    send(versions, {"stable": 2})
                assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert served_version(server, "stable") == 1
            send([1, 2], {"stable": 1})
            send([1, 2], {"stable": 2})
            assert served_version(server, "stable") == 2
            with pytest.raises(grpc.RpcError, match="no model_config_list") as error:
                service.HandleReloadConfigRequest(ReloadConfigRequest(), timeout=60)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        # a start, and a reload of the folder, load first
        server.reload()
        assert served_version(server, "canary") == 2


def test_a_new_version_is_loading_until_it_is_served(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = serve_only_version_1(own)
    with TFServer(own, 0, 0, poll=None) as server:
        assert states(server) == {1: (ModelVersionStatus.AVAILABLE, "")}
        seen: list[Any] = []

        def watched(*arguments: Any) -> Any:
            seen.append((states(server), get(at(server, "/versions/2/metadata")).status_code))
            return servable.load(*arguments)

        monkeypatch.setattr(engine, "load", watched)
        (own / "models.config").write_text(both)
        server.reload()
        states_then, answered = seen.pop()
        assert states_then[1] == (ModelVersionStatus.AVAILABLE, "")
        assert states_then[2] == (ModelVersionStatus.LOADING, "")
        assert answered == 404
        assert states(server)[2] == (ModelVersionStatus.AVAILABLE, "")
        server.reload()
        assert not seen  # what is loaded is not loaded again


CLIENT = """
import sys
for name in ("tensorflow", "tensorflow_serving", "keras", "torch"):
    sys.modules[name] = None
from hepdata_adapters.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_promotion_and_rollout_need_no_tensorflow(own: Path) -> None:
    def run(*words: str) -> str:
        path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, *words],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    with TFServer(own, 0, 0, poll=None) as server:
        assert served_version(server) == 1
        run("promote", str(own))
        said = run("rollout", str(own), server.grpc_address)
        assert f"{server.grpc_address} took " in said
        assert served_version(server) == 2
        assert "took" not in run("rollout", str(own), server.grpc_address)
        run("rollback", str(own))
        run("rollout", str(own), server.grpc_address)
        assert served_version(server) == 1


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("versions: 2", "versions: 9", "version 9 of model 'tth' is not in"),
        ('"canary"\n      value: 2', '"canary"\n      value: 9', "version 9, which is not loaded"),
        ('name: "tth"', 'name: "../tth"', "a model cannot be called '../tth'"),
        ('name: "tth"', 'name: "other"', "model 'other' has the base_path"),
        ('"tensorflow"', '"other"', "is of platform 'other'"),
        ("model_config_list {", "model_list {", "is no ModelServerConfig"),
        ("config {", 'config { name: "tth" base_path: "tth" model_platform: "tensorflow" }'
         " config {", "stands twice"),
    ],
)  # fmt: skip
def test_a_config_that_makes_no_sense(old: str, new: str, message: str, own: Path) -> None:
    config = (own / "models.config").read_text()
    assert old in config
    (own / "models.config").write_text(config.replace(old, new, 1).replace("_list config", "_list"))
    with pytest.raises((ConfigError, ServerError), match=message):
        TFServer(own, 0, 0).start()


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no models.config; make one with"):
        TFServer(tmp_path).start()


def test_settings_of_tls_are_refused(own: Path) -> None:
    (own / "ssl.config").touch()
    with pytest.raises(ConfigError, match=r"ssl.config: this server speaks plain HTTP and gRPC"):
        TFServer(own, 0, 0).start()


def seal(version: Path) -> None:
    """Make the hashes of a version fit what it holds now."""
    sums = version / "assets.extra" / "SHA256SUMS"
    sums.unlink()
    sums.write_text(folder_sums(version))


@pytest.mark.parametrize("fault", ["golden", "flipped", "graph", "gone"])
def test_a_broken_version_is_refused_and_the_old_ones_keep_serving(fault: str, own: Path) -> None:
    version = own / "models" / "tth" / "2"
    config = serve_only_version_1(own)
    if fault == "golden":
        path = version / "assets.extra" / "golden.json"
        golden = json.loads(path.read_text())
        golden["predictions"][2] = 0.125
        path.write_text(json.dumps(golden))
        seal(version)
        message = r"golden event 2: the model predicts .*, not 0.125"
    elif fault == "flipped":
        content = bytearray((version / "variables/variables.data-00000-of-00001").read_bytes())
        content[len(content) // 2] ^= 1
        (version / "variables/variables.data-00000-of-00001").write_bytes(content)
        message = (
            "version 2 of model 'tth' in .*variables.data-.* is not the file that was exported"
        )
    elif fault == "graph":
        content = (version / "saved_model.pb").read_bytes()
        (version / "saved_model.pb").write_bytes(content[: len(content) // 2])
        seal(version)
        message = "version 2 of model 'tth' in .* cannot be loaded"
    else:
        (version / "saved_model.pb").unlink()
        seal(version)
        message = "is incomplete: there is no saved_model.pb"
    with TFServer(own, 0, 0, poll=None) as server:
        (own / "models.config").write_text(config)
        with pytest.raises(ArchiveError, match=message):
            server.reload()
        assert states(server)[1] == (ModelVersionStatus.AVAILABLE, "")
        state, error = states(server)[2]
        assert state == ModelVersionStatus.END
        assert "version 2 of model 'tth'" in error
        events = small_events(3)
        served = client.predict(server.urls["tth"], events)
        np.testing.assert_allclose(served, expected(events, 1), rtol=0, atol=1e-6)
    with pytest.raises(ArchiveError, match=message):
        TFServer(own, 0, 0).start()
