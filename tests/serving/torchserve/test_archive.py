"""Archives for TorchServe are reproducible, complete and refused when they do not fit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform import vector
from hepdata_serving.archive import source_files, write_atomically, zip_bytes
from hepdata_serving.errors import ArchiveError, ExportError, JavaError
from hepdata_serving.torchserve import config
from hepdata_serving.torchserve.java import find_java, parse_major
from hepdata_serving.torchserve.program import load_program, refuse_pickles, save_program
from tests.helpers.handlers import exported_archive, python_path
from tests.helpers.torchserve_example import ExampleScorer, eager, example_transform, export_example


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_archive(tmp_path_factory)


# --- the archive -------------------------------------------------------------------------------


def test_same_input_gives_same_bytes_in_any_process(exported: Path, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from tests.helpers.torchserve_example import export_example; "
        "export_example(pathlib.Path(sys.argv[1]), 'example')"
    )
    folder = tmp_path / "another working directory"
    folder.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": python_path()}
    subprocess.run([sys.executable, "-c", code, "out"], cwd=folder, env=environment, check=True)
    data = (folder / "out" / "model_store" / "example-1.0.mar").read_bytes()
    assert hashlib.sha256(data).digest() == hashlib.sha256(exported.read_bytes()).digest()
    assert os.fsencode(tmp_path) not in data


def test_archive_tells_nothing_of_the_machine(exported: Path) -> None:
    data = exported.read_bytes()
    for path in {sys.prefix, str(Path.cwd()), str(Path.home()), str(Path(torch.__file__).parent)}:
        if path != "/":
            assert os.fsencode(path) not in data
    with zipfile.ZipFile(exported) as archive:
        assert {item.date_time for item in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())
        for item in archive.infolist():
            assert not item.filename.startswith("/")
            assert ".." not in item.filename


def test_archive_is_complete_and_described(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        names = set(archive.namelist())
        metadata = json.loads(archive.read("metadata.json"))
    assert names >= {"MAR-INF/MANIFEST.json", "model.pt2", "transform.json", "golden.json"}
    assert "code/hepdata_adapters/common/transform/vector.py" in names
    assert metadata["outputs"] == ["class0"]
    assert metadata["features"] == example_transform().feature_names
    folder = exported.parent.parent
    assert "curl http://127.0.0.1:8080/predictions/example" in (folder / "README.md").read_text()
    assert [path.name for path in exported.parent.iterdir()] == ["example-1.0.mar"]


def test_copied_sources_are_the_installed_ones() -> None:
    files = source_files(["hepdata_serving.torchserve.handler"])
    copied = files["hepdata_adapters/common/transform/vector.py"]
    assert copied == Path(vector.__file__).read_bytes()
    assert not any("export" in name or "server" in name for name in files)


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "..", ".hidden", "a..b", "é", "a b", "x" * 200]
)
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        export_example(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "ranking"}, "not one of"),
        ({"outputs": ["a", "b"]}, "one name"),
        ({"golden_events": [], "golden_predictions": []}, "golden_events is empty"),
        ({"golden_predictions": [0.5]}, "8 golden events but 1 predictions"),
        ({"golden_predictions": [float("nan")] * 8}, "not a finite number"),
        ({"metadata": {"path": Path("x")}}, "is not JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_example(tmp_path, **changes)


def test_export_compares_with_the_golden_predictions(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="golden event 0: the model predicts"):
        export_example(tmp_path, golden_predictions=[0.123] * 8)
    assert list(tmp_path.iterdir()) == []


def test_write_is_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- the program -------------------------------------------------------------------------------


class Branching(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] if x.sum() > 0 else x[:, 1]


class Squeezing(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1].squeeze()


class FixedBatch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(3, -1)[:, 0]


@pytest.mark.parametrize("model", [Branching, FixedBatch])
def test_a_model_that_cannot_be_exported_says_why(
    model: type[torch.nn.Module], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=rf"torch.export refuses {model.__name__}: .*torch.where"):
        export_example(tmp_path, scorer=model().eval())


def test_scores_of_one_event_must_keep_their_axis(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"\(\) for 1 events, not float32 \(1,\)"):
        export_example(tmp_path, scorer=Squeezing().eval())


def test_a_training_model_is_refused(tmp_path: Path) -> None:
    scorer = ExampleScorer(example_transform().num_features)
    with pytest.raises(ConfigError, match=r"call scorer.eval\(\)"):
        export_example(tmp_path, scorer=scorer.train())


@pytest.mark.parametrize("n", [1, 2, 3, 17])
@pytest.mark.parametrize("classes", [1, 3])
def test_program_is_the_model_for_any_number_of_events(n: int, classes: int) -> None:
    scorer = ExampleScorer(13, classes)
    x = np.random.default_rng(n).normal(size=(n, 13)).astype(np.float32)
    scores = load_program(save_program(scorer, np.zeros((3, 13), np.float32)))(x)
    assert scores.shape == ((n,) if classes == 1 else (n, classes))
    np.testing.assert_allclose(scores, eager(scorer)(x), rtol=0, atol=1e-6)


def test_programs_with_pickles_are_not_loaded() -> None:
    program = torch.export.export(ExampleScorer(4), (torch.zeros(2, 4),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)  # with its example input, which torch pickles
    with pytest.raises(ArchiveError, match="holds a pickle"):
        load_program(buffer.getvalue())
    entry = {"w": {"path_name": "weight_0", "is_param": True, "use_pickle": True}}
    declared = json.dumps({"config": entry}).encode()
    with pytest.raises(ArchiveError, match="holds a pickled object: w"):
        refuse_pickles(zip_bytes({"a/data/weights/model_weights_config.json": declared}))
    with pytest.raises(ArchiveError, match="corrupt"):
        load_program(b"no zip")


# --- the store and Java ------------------------------------------------------------------------


def test_a_store_without_archives_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no model archive"):
        config.models_in(tmp_path)
    (tmp_path / "broken.mar").write_bytes(b"no zip")
    with pytest.raises(ArchiveError, match=r"broken.mar is not a TorchServe archive"):
        config.models_in(tmp_path)


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_401"', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_java_versions_are_read(text: str, major: int | None) -> None:
    assert parse_major(text) == major


def test_java_home_comes_first_and_old_java_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(folder: Path, version: str) -> Path:
        java = folder / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(java.stat().st_mode | stat.S_IXUSR)
        return java

    old, new = install(tmp_path / "old", "11.0.1"), install(tmp_path / "new", "21.0.2")
    environ = {"JAVA_HOME": str(old.parent.parent), "PATH": f"{new.parent}"}
    assert find_java(environ) == new
    assert find_java({"JAVA_HOME": str(new.parent.parent), "PATH": str(old.parent)}) == new
    monkeypatch.setattr("hepdata_serving.torchserve.java.importlib.util.find_spec", lambda _: None)
    with pytest.raises(JavaError, match=r"is Java 11.*pip install .hepdata-adapters\[serve\]"):
        find_java({"JAVA_HOME": str(old.parent.parent), "PATH": str(tmp_path)})
    with pytest.raises(JavaError, match="none was found"):
        find_java({"PATH": str(tmp_path)})
