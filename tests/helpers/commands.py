"""For the tests of the command line: calls in this process, a project to call them on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import pytest
import uproot
import yaml

from hepdata_adapters.cli.main import main

SPLITS = ("train", "validation", "test")
PROCESSES = [("sig.root", 300, 2.0), ("bkg.root", 250, 0.0)]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return run


def one_line(answer: Answer, code: int) -> str:
    """The message of a failed command, which must be one line and nothing else."""
    lines = answer.err.splitlines()
    assert (answer.code, answer.out, len(lines)) == (code, "", 1), answer
    assert lines[0].startswith("hepdata-adapters: ")
    return lines[0].removeprefix("hepdata-adapters: ")


def write(path: Path, size: int, shift: float = 0.0, **columns: Any) -> Path:
    """Events with float32 ``x``, integer ``n`` and jagged ``Jet_pt`` of 0 to 3 values."""
    random = np.random.default_rng(size)
    lengths = np.arange(size) % 4
    arrays = {
        "x": random.normal(shift, 1, size).astype(np.float32),
        "n": random.integers(0, 5, size),
        "Jet_pt": ak.unflatten(random.exponential(40, lengths.sum()).astype(np.float32), lengths),
    } | columns
    types = {
        name: "var * float32" if isinstance(values, ak.Array) else values.dtype
        for name, values in arrays.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        file.mktree("Events", types)
        for start in range(0, size, 100):
            file["Events"].extend({k: v[start : start + 100] for k, v in arrays.items()})
    return path


def write_config(path: Path, samples: Sequence[dict[str, Any]], **options: Any) -> Path:
    training = {"epochs": 2, "batch_size": 32} | options.pop("training", {})
    document = {"samples": list(samples), "training": training} | options
    path.write_text(yaml.safe_dump(document))
    return path


def write_project(folder: Path) -> Path:
    for name, size, shift in PROCESSES:
        write(folder / name, size, shift)
    samples = [{"files": "sig.root", "label": 1}, {"files": "bkg.root", "label": 0}]
    write_config(folder / "config.yaml", samples, training={"learning_rate": 0.02})
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signal and a background file and a config for them."""
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def trained_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a trained run."""
    folder = write_project(tmp_path_factory.mktemp("project"))
    arguments = ["fit", str(folder / "config.yaml"), "-o", str(folder / "run")]
    assert main([*arguments, "--set", "model.hidden=[16]", "--set", "training.seed=3"]) == 0
    return folder


def rows_of(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}
    with uproot.open(path) as file:
        return dict(file["scores"].arrays(library="np").items())
