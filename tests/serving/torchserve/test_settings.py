"""config.properties is honoured or refused, and exports have versions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_serving import client
from hepdata_serving.errors import ArchiveError, ServerError
from hepdata_serving.torchserve import config
from hepdata_serving.torchserve.java import find_java
from hepdata_serving.torchserve.processes import free_ports, port_is_free
from hepdata_serving.torchserve.properties import changed, parse
from hepdata_serving.torchserve.settings import Settings, read_settings
from hepdata_serving.torchserve.versions import (
    promote,
    rollback,
    served_versions,
    versions_on_disk,
)
from hepdata_serving.versions import Versions
from tests.helpers.torchserve import (
    eventually,
    line_within,
    needs_torchserve,
    offline,
    own_temporary_folder,
    serving,
)
from tests.helpers.torchserve_example import example_events, export_example


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A folder with one version of a model, and one with two."""
    folders = [tmp_path_factory.mktemp(name) / "served" for name in ("one", "two")]
    export_example(folders[0])
    shutil.copytree(folders[0], folders[1])
    export_example(folders[1], seed=2)
    return folders


@pytest.fixture
def folder(exported: list[Path], tmp_path: Path) -> Path:
    """A folder of one's own with one version."""
    return Path(shutil.copytree(exported[0], tmp_path / "served"))


@pytest.fixture
def two(exported: list[Path], tmp_path: Path) -> Path:
    """A folder of one's own with a stable version and a canary."""
    return Path(shutil.copytree(exported[1], tmp_path / "served"))


def change(folder: Path, **settings: str) -> None:
    path = folder / "config.properties"
    path.write_text(changed(path.read_text(), settings))


def settings_of(folder: Path) -> dict[str, str]:
    return parse((folder / "config.properties").read_text())


def read(folder: Path, port: int | None = None, workers: int | None = None) -> Settings:
    return read_settings(folder, port, workers, count(50_001))


# --- a real server ---------------------------------------------------------------------------


@pytest.fixture
def own_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with own_temporary_folder(monkeypatch) as path:
        yield path


def secure(folder: Path) -> Path:
    """Make a folder's server speak https, with a certificate of its own, and want tokens."""
    keytool = find_java().with_name("keytool")
    store = ["-keystore", folder / "key store.p12", "-storepass", "not a secret", "-alias", "a"]
    make = ["-genkeypair", "-keyalg", "RSA", "-keysize", "2048", "-dname", "CN=localhost"]
    name = ["-ext", "san=ip:127.0.0.1", "-storetype", "PKCS12"]
    subprocess.run([keytool, *make, *name, *store], check=True, capture_output=True)
    subprocess.run(
        [keytool, "-exportcert", "-rfc", "-file", folder / "certificate.pem", *store],
        check=True,
        capture_output=True,
    )
    change(
        folder,
        inference_address="https://127.0.0.1:8443",
        management_address="https://127.0.0.1:1",
        disable_token_authorization="false",
        keystore="key store.p12",
        keystore_pass="not a secret",
        keystore_type="PKCS12",
    )
    return folder / "certificate.pem"


@needs_torchserve
def test_https_and_tokens_are_honoured_and_nothing_outlives_a_killed_serve(
    two: Path, own_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(two)
    certificate = secure(two)
    (management,) = free_ports(1)
    change(two, management_address=f"https://127.0.0.1:{management}")
    events = example_events(20, seed=4)
    with serving(two) as process:
        ready = line_within(process.stdout, 120)
        url = re.fullmatch(r"ready: (https://127\.0\.0\.1:(\d+)/predictions/example)\n", ready)
        assert url, ready
        others = [line_within(process.stdout, 10) for _ in range(4)]
        assert others[0] == f"ready: management https://127.0.0.1:{management}/models\n"
        said = line_within(process.stdout, 10)
        keys = Path(said.removeprefix("tokens: ").strip())
        assert keys.is_relative_to(own_tmp)
        assert keys.stat().st_mode & 0o077 == 0
        token = json.loads(keys.read_text())["inference"]["key"]

        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(ServerError, match="Token Authorization failed"):
            client.predict(url[1], events)
        monkeypatch.setenv("HEPDATA_TOKEN", "wrong")
        with pytest.raises(ServerError, match="Token Authorization failed"):
            client.predict(url[1], events)
        monkeypatch.setenv("HEPDATA_TOKEN", token)
        np.testing.assert_allclose(
            client.predict(url[1], events), offline(events, seed=2), rtol=0, atol=1e-6
        )
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(ServerError, match="CERTIFICATE_VERIFY_FAILED"):
            client.predict(url[1], events)
        for address in (url[1], f"https://127.0.0.1:{management}/models"):
            plain = requests.get(address.replace("https", "http"), timeout=10)
            assert "only accepts HTTPS requests" in plain.text

        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 3  # Java, its worker, and who ends them
        process.kill()
        process.wait(10)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    assert port_is_free(int(url[2]))
    assert port_is_free(management)
    assert eventually(lambda: list(own_tmp.iterdir()) == [], 5)


# --- settings --------------------------------------------------------------------------------


def test_all_settings_reach_java_but_what_the_command_line_says(folder: Path) -> None:
    given = {
        "unknown_to_us": "x = y",
        "max_request_size": "1000",
        "enable_model_api": "true",
        "metrics_address": "https://127.0.0.1:9999",
        "grpc_inference_address": "0.0.0.0",
        "grpc_inference_port": "9998",
        "enable_grpc_ssl": "true",
        "keystore_pass": "ends in a space ",
        "vmargs": "-Xmx2g -Da='b c'",
        "plugins_path": "/plugins",
        "python": "/usr/bin/other",
    }
    change(folder, **given)
    found = read(folder)
    assert {key: found.properties[key] for key in given} == given
    assert found.java_options == ["-Xmx2g", "-Da=b c"]
    assert found.plugins == ":/plugins/*"
    assert (found.inference.url, found.management.port) == ("http://127.0.0.1:8080", 50_001)
    assert read(folder, port=81).inference.url == "http://127.0.0.1:81"
    assert not found.has_tokens
    table = json.loads(found.properties["models"])["example"]["1.0"]
    assert (table["batchSize"], table["maxBatchDelay"]) == (
        config.BATCH_SIZE,
        config.MAX_BATCH_DELAY_MS,
    )
    assert table["minWorkers"] == 1
    table = json.loads(read(folder, workers=3).properties["models"])["example"]["1.0"]
    assert (table["minWorkers"], table["maxWorkers"]) == (3, 3)


def test_what_is_not_in_the_file_is_as_secure_as_torchserve_itself(folder: Path) -> None:
    path = folder / "config.properties"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "authorization" not in line))
    assert read(folder).has_tokens
    change(folder, inference_address="https://0.0.0.0:8443")
    assert read(folder).properties["inference_address"] == "https://0.0.0.0:8443"
    assert read(folder, port=5).inference.url == "https://127.0.0.1:5"


def test_files_are_looked_for_beside_the_settings(folder: Path) -> None:
    (folder / "cert.pem").touch()
    change(folder, certificate_file="cert.pem", private_key_file="/gone/key.pem", keystore="")
    with pytest.raises(ConfigError, match=r"private_key_file: there is no file /gone/key.pem$"):
        read(folder)
    change(folder, private_key_file="cert.pem")
    found = read(folder).properties
    assert found["private_key_file"] == found["certificate_file"] == str(folder / "cert.pem")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inference_address": "unix:/tmp/a.sock"}, "no address that serve can see to be ready"),
        ({"metrics_address": "unix:/tmp/a.sock"}, "no address that serve can see to be ready"),
        ({"management_address": "https://localhost"}, "'https://localhost' is no address"),
        ({"management_address": "http://localhost:x"}, "'http://localhost:x' is no address"),
        ({"keystore": "gone.p12"}, "keystore: there is no file .*gone.p12"),
        ({"certificate_file": "."}, "go together, and one is missing"),
        ({"model_store": "/elsewhere"}, "model_store is /elsewhere"),
        ({"enable_envvars_config": "TRUE"}, "not from the environment; write them here"),
        ({"model_snapshot": "{}"}, "remove this setting"),
        ({"load_models": "other.mar"}, "'other.mar' is not among the archives"),
        ({"models": "[1]"}, "not a JSON table"),
        ({"models": "[" * 100_000}, "nested more than 64 levels"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    settings: dict[str, str], message: str, folder: Path
) -> None:
    change(folder, **settings)
    with pytest.raises(ConfigError, match=message):
        read(folder)


def test_metrics_that_an_earlier_export_leaves_empty_are_told_as_such(folder: Path) -> None:
    assert read(folder).others["metrics"].endswith("/metrics")
    change(folder, metrics_mode="log")
    assert (
        read(folder).others["metrics"].endswith("/metrics (empty without metrics_mode=prometheus)")
    )


def test_all_that_cannot_be_honoured_is_said_at_once(folder: Path) -> None:
    change(folder, keystore="a", workflow_store="b", inference_address="c:1")
    with pytest.raises(ConfigError, match=r"config.properties: keystore.*; workflow_.*; 'c:1'"):
        read(folder)


# --- versions --------------------------------------------------------------------------------


def loaded(folder: Path) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """What TorchServe reads: the archives in order, and their options."""
    settings = settings_of(folder)
    return settings["load_models"].split(","), json.loads(settings["models"])


def test_an_export_is_a_version_and_promotion_makes_it_the_default(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (folder / "model_store" / "example-1.0.mar").read_bytes()
    assert loaded(folder)[0] == ["example-1.0.mar"]
    path = folder / "config.properties"
    path.write_text("# mine\n" + path.read_text().replace('"batchSize": 16', '"batchSize": 4'))
    path.chmod(0o600)
    change(folder, keystore_pass="mine", unknown_to_us="1")
    text = path.read_text()

    export_example(folder, "other")
    assert export_example(folder, seed=2).name == "example-2.0.mar"
    archives, table = loaded(folder)
    # TorchServe answers requests without a version with the one that it loads first
    assert archives == ["example-1.0.mar", "example-2.0.mar", "other-1.0.mar"]
    assert {v: options["defaultVersion"] for v, options in table["example"].items()} == {
        "1.0": True,
        "2.0": False,
    }
    assert [options["batchSize"] for options in table["example"].values()] == [4, 4]
    assert (folder / "model_store" / "example-1.0.mar").read_bytes() == first
    assert path.stat().st_mode & 0o777 == 0o600
    kept = re.compile("^(models|load_models)=.*\n", re.MULTILINE)
    assert kept.sub("", path.read_text()) == kept.sub("", text)

    assert main(["promote", str(folder), "--model", "example"]) == 0
    assert "example: version 2.0 is stable\n" in capsys.readouterr().out
    assert loaded(folder)[0] == ["example-2.0.mar", "other-1.0.mar"]
    assert main(["promote", str(folder), "--model", "example"]) == 2
    assert "no canary to promote, version 2 is stable" in capsys.readouterr().err
    export_example(folder, seed=3)
    assert main(["rollback", str(folder), "--model", "example"]) == 0
    said = capsys.readouterr().out
    assert "example: version 1.0 is stable, 3.0 is beside it\n" in said
    assert served_versions(folder)["example"] == Versions(1, 3)
    archives = ["example-1.0.mar", "example-3.0.mar", "other-1.0.mar"]
    assert loaded(folder)[0] == archives
    assert [model.archive for model in read(folder).models] == archives
    assert list(versions_on_disk(folder, "example")) == [1, 2, 3]
    with pytest.raises(ConfigError, match="no version before 1 was ever stable"):
        rollback(folder, "example")
    with pytest.raises(ConfigError, match=r"name one of the models in .*: example, other"):
        promote(folder)
    with pytest.raises(ConfigError, match=r"serves no model 'exampl'; did you mean 'example'"):
        promote(folder, "exampl")
    assert main(["rollout", str(folder), "127.0.0.1:1"]) == 2
    assert "takes other versions when it starts" in capsys.readouterr().err


def test_a_folder_of_an_earlier_version_goes_on(folder: Path) -> None:
    store = folder / "model_store"
    (store / "example-1.0.mar").rename(store / "example.mar")
    change(folder, load_models="all", models=settings_of(folder)["models"].replace("-1.0", ""))
    (folder / "stable.json").unlink()
    assert [model.archive for model in read(folder).models] == ["example.mar"]
    export_example(folder, seed=2)
    assert loaded(folder)[0] == ["example.mar", "example-2.0.mar"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ('{"example": {}}', "'models' has the versions none of 'example'"),
        ('{"example": {"1.0": {}, "2.0": {}}}', "versions 1.0, 2.0 of 'example'. It must have one"),
        ('{"example": {"3.0": {"defaultVersion": true}}}', "and the archives of both"),
        ('{"example": {"x": {"defaultVersion": true}}}', "version 'x' is none of 1.0, 2.0"),
    ],
)
def test_versions_that_contradict_are_refused(models: str, message: str, two: Path) -> None:
    change(two, models=models)
    before = sorted(path.name for path in two.rglob("*"))
    for action in (served_versions, promote, read, export_example):
        with pytest.raises(ArchiveError, match=message):
            action(two)
    assert sorted(path.name for path in two.rglob("*")) == before


def test_a_damaged_history_and_archives_of_one_version_are_refused(folder: Path) -> None:
    (folder / "stable.json").write_text('{"earlier": {"example": [2, 1]}}')
    with pytest.raises(ArchiveError, match=r"stable.json is corrupt: it holds .*not versions in"):
        served_versions(folder)
    (folder / "stable.json").unlink()
    store = folder / "model_store"
    (store / "copy.mar").write_bytes((store / "example-1.0.mar").read_bytes())
    with pytest.raises(ArchiveError, match=r"twice: copy.mar and example-1.0.mar; remove one"):
        served_versions(folder)
