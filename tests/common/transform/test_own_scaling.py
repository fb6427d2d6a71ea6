"""A user's scaling function from a file: in workers, in run folders, in other processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.transform.scalings.registered import scaling_function
from tests.helpers.samples import write_events

pytest.importorskip("torch")
OWN = """
import torch
from hepdata_adapters import scaling_function

@scaling_function("own_scaling_root", inverse=lambda xp, v: v * v)
def root(xp, values):
    return xp.sqrt(xp.abs(values))

def make(num_features):
    return torch.nn.Linear(num_features, 1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    samples = [
        {"files": str(write_events(folder / f"{n}.root", 300, n)), "label": n} for n in (0, 1)
    ]
    config = {
        "samples": samples,
        "features": [{"branch": "MET", "scaling": {"function": "own.py:root"}}],
        "model": {"factory": "own.py:make"},
        "training": {"epochs": 1, "workers": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_function_from_a_file_goes_wherever_the_transform_goes(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = folder / "run"
    assert main(["fit", str(folder / "config.yaml"), "-o", str(run)]) == 0
    assert (run / "model.py").read_text() == OWN
    assert "function: model.py:root" in (run / "config.yaml").read_text()
    (folder / "own.py").rename(folder / "gone.py")
    capfd.readouterr()
    command = [sys.executable, "-m", "hepdata_adapters"]
    for arguments in (
        ["evaluate", str(run)],
        ["predict", str(run), str(folder / "0.root"), "-o", str(folder / "scores.root")],
        ["export", str(run), "-o", str(folder / "onnx"), "--format", "onnx"],
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    refused = subprocess.run(
        [*command, "export", str(run), "-o", str(folder / "mar"), "--format", "torchserve"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "own_scaling_root" in refused.stderr
    (folder / "gone.py").rename(folder / "own.py")


def test_two_functions_cannot_share_a_name() -> None:
    @scaling_function("own_scaling_shared")
    def one(xp, values):
        return values * 2

    with pytest.raises(ConfigError, match="'own_scaling_shared' is already"):

        @scaling_function("own_scaling_shared")
        def other(xp, values):
            return values * 3

    assert one(np, np.array([1.0])).tolist() == [2.0]
