"""What the pages of docs/ show runs, and is what the code says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.stream.dataset import Dataset

ROOT = Path(__file__).resolve().parents[2]
FEATURES = (ROOT / "docs" / "features.md").read_text()
PYTHON = re.findall(r"```python\n(.+?)```", FEATURES, re.DOTALL)


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_of_the_page_on_features(tmp_path: Path, code: str) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "page.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_config_of_the_page_on_features(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    (text,) = re.findall(r"```yaml\n(.+?)```", FEATURES, re.DOTALL)
    (tmp_path / "tth").mkdir()
    path = tmp_path / "tth" / "config.yaml"
    path.write_text(text)
    dataset = Dataset.prepare(load_config(path))
    assert list(dataset.transform.empty) == [
        "x", "mask", "lengths", "jets", "jets_mask", "calo", "constituents",
    ]  # fmt: skip
    assert dataset.transform.feature_names[-2:] == ["leading_mass_missing", "nBTag"]


def test_the_published_schema_is_that_of_the_config() -> None:
    """Make it anew with: hepdata-adapters schema > docs/config.schema.json"""
    published = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    assert published == RunConfig.model_json_schema()


@pytest.mark.parametrize("name", ["transformer", "image"])
def test_the_examples_with_inputs_are_valid(name: str) -> None:
    config = load_config(ROOT / "examples" / "tth" / f"{name}.yaml")
    dataset = Dataset.prepare(config)
    pytest.importorskip("torch")
    import torch

    from hepdata_adapters.torch.data.convert import as_tensors
    from hepdata_adapters.torch.training.models import build_model

    net = build_model(config.model, dataset.transform.model_shape, 1).eval()
    with torch.no_grad():
        assert net(as_tensors(dataset.transform.zeros(3))).shape == (3, 1)


def test_the_commands_of_the_page_on_lightning(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "lightning.md").read_text()
    for name, language in (("train.py", "python"), ("train.yaml", "yaml")):
        (text,) = re.findall(rf"```{language}\n(.+?)```", page, re.DOTALL)
        (tmp_path / name).write_text(text)
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "examples" / "data")
    commands = re.findall(r"^\$ python (.+)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command.split()], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "max_steps=3" in done.stderr
    saved = yaml.safe_load((tmp_path / "lightning" / "config.yaml").read_text())
    assert (saved["data"]["exclude"], saved["data"]["batch_size"]) == (["genWeight"], 128)


PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.parametrize("command", re.findall(r"^\$ hepdata-adapters (.+)$", PERFORMANCE, re.M))
def test_the_commands_of_the_page_on_performance(command: str) -> None:
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", "hepdata_adapters", *command.split()], cwd=ROOT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "--json" in command:
        document = json.loads(done.stdout)
        named = PERFORMANCE.partition("prints one JSON document")[2]
        assert [key for key in document if key in named] == [
            "setting", "loader", "loader_with_workers", "step", "both", "first_start", "limit",
            "advice", "remarks",
        ]  # fmt: skip
        return
    (shown,) = re.findall(r"```text\n(.+?)```", PERFORMANCE, re.DOTALL)
    for text in (shown, done.stdout):  # the page shows what the command prints
        words = [line.split()[0] for line in text.splitlines() if line.split()]
        assert {"loader", "step", "both", "stage", "transform", "forward", "NOTE:"} <= {*words}
        for line in ("memory for reading: ", "files and specs took ", "peak of this process: "):
            assert line in text
