"""Versions of models for TF Serving: their labels on disk, and each step to a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.apis.model_service_pb2_grpc import (
    ModelServiceServicer,
    add_ModelServiceServicer_to_server,
)
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving.errors import ArchiveError, ServerError
from hepdata_serving.tfserving.readme import write_readme
from hepdata_serving.tfserving.reload import apply_rollout
from hepdata_serving.tfserving.states import sequence
from hepdata_serving.tfserving.versions import announce, promote, rollback, served_versions
from hepdata_serving.versions import Versions
from tests.helpers.tfserving_example import small_export


@given(st.lists(st.sampled_from(["export", "promote", "rollback"]), max_size=25))
def test_labels_are_always_on_versions_loaded_before(actions: list[str]) -> None:
    state: Versions | None = None
    loaded: set[int] = set()
    newest = 0
    for action in actions:
        before = state
        try:
            if action == "export":
                newest += 1
                state = state.exported(newest) if state else Versions(newest)
            elif state:
                state = state.promoted() if action == "promote" else state.rolled_back()
        except ConfigError:
            assert (state.canary if action == "promote" else state.earlier) in (None, ())
        if state is None or state == before:
            continue
        for step in sequence("m", before, state):
            assert set(step.model.labels.values()) <= loaded & set(step.model.versions)
            if before:
                assert "stable" in step.model.labels
            loaded = set(step.model.versions)
            assert len(loaded) <= 3
        assert loaded == set(state.served)
        assert step.model.labels == state.labels
        assert len(loaded) <= 2
        assert list(state.earlier) == sorted(set(state.earlier))
        assert all(version < state.stable for version in state.earlier)


def add_version(folder: Path, version: int, name: str = "m") -> list[Path]:
    (folder / "models" / name / str(version)).mkdir(parents=True)
    return announce(folder, name, version)


def steps_in(paths: list[Path], name: str = "m") -> list[tuple[str, list[int], dict[str, int]]]:
    steps = []
    for path in paths:
        config = text_format.Parse(path.read_text(), ModelServerConfig())
        (model,) = [m for m in config.model_config_list.config if m.name == name]
        versions = list(model.model_version_policy.specific.versions)
        steps.append((path.name, versions, dict(model.version_labels)))
    return steps


def test_promotion_and_rollback_on_disk(tmp_path: Path) -> None:
    assert steps_in(add_version(tmp_path, 1)) == [
        ("01-load-m.config", [1], {}),
        ("02-label-m.config", [1], {"stable": 1}),
    ]
    assert steps_in(add_version(tmp_path, 2)) == [
        ("01-load-m.config", [1, 2], {"stable": 1}),
        ("02-label-m.config", [1, 2], {"stable": 1, "canary": 2}),
    ]
    # a new canary takes the place of the one that was never promoted
    assert steps_in(add_version(tmp_path, 3)) == [
        ("01-load-m.config", [1, 2, 3], {"stable": 1, "canary": 2}),
        ("02-label-m.config", [1, 2, 3], {"stable": 1, "canary": 3}),
        ("03-unload-m.config", [1, 3], {"stable": 1, "canary": 3}),
    ]
    assert steps_in(promote(tmp_path)) == [
        ("01-label-m.config", [1, 3], {"stable": 3}),
        ("02-unload-m.config", [3], {"stable": 3}),
    ]
    # back to what was stable, not to the version below, which never was
    back = rollback(tmp_path, "m")
    assert steps_in(back) == [
        ("01-load-m.config", [1, 3], {"stable": 3}),
        ("02-label-m.config", [1, 3], {"stable": 1}),
        ("03-unload-m.config", [1], {"stable": 1}),
    ]
    assert sorted((tmp_path / "rollout").iterdir()) == back
    assert back[-1].read_bytes() == (tmp_path / "models.config").read_bytes()
    with pytest.raises(ConfigError, match="no version before 1 was ever stable"):
        rollback(tmp_path)
    with pytest.raises(ConfigError, match="there is no canary to promote"):
        promote(tmp_path)
    add_version(tmp_path, 4)
    promote(tmp_path)
    assert served_versions(tmp_path) == {"m": Versions(4, None, (1,))}


def test_models_of_one_folder_are_independent(tmp_path: Path) -> None:
    add_version(tmp_path, 1, "a")
    add_version(tmp_path, 1, "b")
    paths = add_version(tmp_path, 2, "b")
    assert {step[1:] == ([1], {"stable": 1}) for step in steps_in(paths, "a")} == {True}
    with pytest.raises(ConfigError, match=r"name one of the models in .*: a, b"):
        promote(tmp_path)
    with pytest.raises(ConfigError, match="serves no model 'c'"):
        promote(tmp_path, "c")
    promote(tmp_path, "b")
    assert served_versions(tmp_path) == {"a": Versions(1), "b": Versions(2, None, (1,))}


def test_an_interrupted_promotion_can_be_repeated(tmp_path: Path) -> None:
    add_version(tmp_path, 1)
    add_version(tmp_path, 2)
    before = (tmp_path / "models.config").read_bytes()
    promote(tmp_path)
    (tmp_path / "models.config").write_bytes(before)
    assert served_versions(tmp_path) == {"m": Versions(1, 2)}
    promote(tmp_path)
    assert served_versions(tmp_path) == {"m": Versions(2, None, (1,))}


def test_corrupt_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serves no model: it has no models.config"):
        promote(tmp_path)
    add_version(tmp_path, 1)
    add_version(tmp_path, 2)
    promote(tmp_path)
    good = (tmp_path / "models.config").read_text()
    entry = good.removeprefix("model_config_list {\n").removesuffix("}\n")
    for bad, match in [
        (good[:50], "models.config is corrupt"),
        (good.replace('"stable"', '"blue"'), "has the labels blue, not stable"),
        (good.replace("value: 2", "value: 7"), "labels a version that is not served"),
        (good.replace("2", "7"), "version 7 of 'm' is not in"),
        (good.replace(entry, entry + entry), "stands twice"),
    ]:
        (tmp_path / "models.config").write_text(bad)
        with pytest.raises(ArchiveError, match=match):
            rollback(tmp_path)
        with pytest.raises(ArchiveError, match=match):
            small_export(tmp_path, "m")
    (tmp_path / "models.config").write_text(good)
    for bad in ("{", "[]", "{}", '{"earlier": [2, 1]}', '{"earlier": ["x"]}', '{"earlier": 1}'):
        (tmp_path / "models" / "m" / "stable.json").write_text(bad)
        with pytest.raises(ArchiveError, match=r"stable.json is corrupt"):
            rollback(tmp_path)


def test_a_model_that_was_not_exported_here_is_named(tmp_path: Path) -> None:
    add_version(tmp_path, 1, "foreign")
    with pytest.raises(ArchiveError, match=r"foreign/1 was not written by this package"):
        write_readme(tmp_path)


# --- a running server takes the sequence -------------------------------------------------------


class LabelChecks(ModelServiceServicer):
    """TF Serving's rule: labels are checked before a config's versions are loaded."""

    def __init__(self) -> None:
        self.loaded: set[int] = set()
        self.labels: dict[str, int] = {}
        self.broken: set[int] = set()

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        (model,) = request.config.model_config_list.config
        answer = model_management_pb2.ReloadConfigResponse()
        for version in model.version_labels.values():
            if version not in self.loaded:
                answer.status.error_code = 9
                answer.status.error_message = f"version {version} is not currently available"
                return answer
        self.loaded = set(model.model_version_policy.specific.versions)
        self.labels = dict(model.version_labels)
        return answer

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        spec = request.model_spec
        state = get_model_status_pb2.ModelVersionStatus
        answer = get_model_status_pb2.GetModelStatusResponse()
        if spec.version_label and spec.version_label not in self.labels:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unrecognized label")
        wanted = self.labels.get(spec.version_label, spec.version.value)
        for version in sorted({wanted} if wanted else self.loaded):
            answer.model_version_status.add(
                version=version, state=state.END if version in self.broken else state.AVAILABLE
            )
        return answer


@pytest.fixture
def running() -> Iterator[tuple[str, LabelChecks]]:
    service = LabelChecks()
    server = grpc.server(ThreadPoolExecutor(2))
    add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", service
    server.stop(None).wait()


def test_a_running_server_takes_every_rollout(
    tmp_path: Path, running: tuple[str, LabelChecks]
) -> None:
    target, service = running
    changes: list[Callable[[], list[Path]]] = [
        lambda: add_version(tmp_path, 1),
        lambda: add_version(tmp_path, 2),
        lambda: promote(tmp_path),
        lambda: add_version(tmp_path, 3),
        lambda: add_version(tmp_path, 4),
        lambda: rollback(tmp_path),
    ]
    for change in changes:
        paths = change()
        assert apply_rollout(target, tmp_path) == paths
        state = served_versions(tmp_path)["m"]
        assert (service.loaded, service.labels) == (set(state.served), state.labels)
        assert apply_rollout(target, tmp_path) == []  # it is there already


def test_a_server_that_refuses_or_fails_is_reported(
    tmp_path: Path, running: tuple[str, LabelChecks]
) -> None:
    target, service = running
    with pytest.raises(ConfigError, match="holds no config to send"):
        apply_rollout(target, tmp_path)
    first, last = add_version(tmp_path, 1)
    service.broken = {1}
    with pytest.raises(ServerError, match=r"01-load-m.config: version 1 of 'm' failed to load"):
        apply_rollout(target, tmp_path)
    first.unlink()
    service.loaded = set()
    with pytest.raises(ServerError, match=r"02-label-m.config: version 1 is not currently availab"):
        apply_rollout(target, tmp_path)
    last.write_text("nonsense")
    with pytest.raises(ArchiveError, match=r"02-label-m.config is corrupt"):
        apply_rollout(target, tmp_path)
