"""A run and its archives say where they come from, as read here and by whom it was read."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.files.manifest import scan_file
from hepdata_adapters.common.runs.provenance import git_state
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch.training.run_folder import load_run
from hepdata_adapters.torch.training.train import fit
from hepdata_serving.from_run import export_run
from tests.helpers.samples import write_events


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def config_of(folder: Path) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "small",
            "samples": [
                {"files": str(folder / f"{name}.root"), "label": label, "name": name}
                for label, name in enumerate(("background", "signal"))
            ],
            "features": ["MET"],
            "split": {"seed": 5},
            "model": {"hidden": [4]},
            "training": {"epochs": 1, "batch_size": 256, "seed": 3},
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose statistics came from the cache, where another user's copy had put them."""
    home = tmp_path_factory.mktemp("provenance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEPDATA_CACHE", str(home / "cache"))
        (home / "ann").mkdir()
        for number, name in enumerate(("background", "signal")):
            write_events(home / "ann" / f"{name}.root", 600, seed=number)
        Dataset.prepare(config_of(home / "ann"))
        shutil.copytree(home / "ann", home / "bob")  # with their times
        shutil.rmtree(home / "ann")
        git(home, "init")
        git(home, "commit", "--allow-empty", "-m", "begin")
        patch.chdir(home)
        fit(config_of(home / "bob"), home / "run")
        assert len(list((home / "cache").glob("specs-*"))) == 1
    return home / "run"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_files_of_a_run_are_those_that_were_read_here(trained: Path) -> None:
    """They were named as the cache had first met them, under another user's path."""
    files = [str(trained.parent / "bob" / f"{name}.root") for name in ("background", "signal")]
    assert [file["url"] for file in read(trained / "specs.json")["binding"]["files"]] == files
    found = read(trained / "provenance.json")["files"]
    assert [file["url"] for file in found] == files
    for file, sample in zip(found, ("background", "signal"), strict=True):
        scanned = scan_file(0, file["url"], None)
        assert (file["sample"], file["entries"]) == (sample, 600)
        assert file["content"] == scanned.content.digest
        assert file["state"] == str(Path(file["url"]).stat().st_mtime_ns)
        assert file["bytes"] == Path(file["url"]).stat().st_size
    for path in trained.glob("*.*"):
        if path.suffix in (".json", ".yaml"):
            assert str(trained.parent / "ann") not in path.read_text(), path


def test_versions_seeds_and_revision(trained: Path) -> None:
    found = read(trained / "provenance.json")
    assert found["seeds"] == {"training": 3, "sampling": 0, "split": 5}
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["uproot"] == version("uproot")
    assert found["config"]["model"]["hidden"] == [4]
    assert found["specs"] == read(trained / "specs.json")["hash"]
    assert found["git"] == git_state(trained.parent)
    assert found["git"]["changed"] is False
    assert len(found["git"]["revision"]) == 40


def test_a_changed_file_and_a_folder_without_git(trained: Path, tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    git(tmp_path, "init")
    assert git_state(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    (tmp_path / "a").write_text("2")
    state = git_state(tmp_path)
    assert state is not None
    assert state["changed"] is True


@pytest.mark.parametrize("kind", ["torchserve", "onnx"])
def test_archives_hold_it_and_stay_the_same_bytes(trained: Path, tmp_path: Path, kind: Any) -> None:
    run = load_run(trained)
    made = [export_run(run, tmp_path / number, kind) for number in "12"]
    if kind == "onnx":
        written = [(path / "metadata.json").read_bytes() for path in made]
    else:
        assert made[0].read_bytes() == made[1].read_bytes()
        written = [zipfile.ZipFile(path).read("metadata.json") for path in made]
    assert written[0] == written[1]
    held = json.loads(written[0])["metadata"]["provenance"]
    assert held == read(trained / "provenance.json")
