"""hepdata-adapters convert: what it writes, prints and refuses, and the page about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.config.config_file import load_config
from hepdata_adapters.common.weaver import PLACEHOLDER
from tests.helpers.weaver_files import CONFIG, jets

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "weaver.md").read_text()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jets(tmp_path / "jets_1.root")
    source, out = tmp_path / "weaver.yaml", tmp_path / "made" / "config.yaml"
    source.write_text(CONFIG)
    out.parent.mkdir()
    files = ["--files", f"jets={tmp_path}/jets_*.root"]
    assert main(["convert", str(source), *files, "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert "observers.jet_energy (left out)" in said.err
    assert "# observers.jet_energy (left out)" in out.read_text()
    assert main(["validate", str(out)]) == 0
    assert "valid" in capsys.readouterr().out
    assert main(["convert", str(source), *files]) == 0
    assert capsys.readouterr().out == out.read_text()


def test_relative_files_are_seen_from_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made").mkdir()
    Path("weaver.yaml").write_text(CONFIG)
    words = ["--files", "a=data/a_*.root", "--files", "a=root://b//c.root", "--files", "b=d.root"]
    assert main(["convert", "weaver.yaml", *words, "-o", "made/config.yaml"]) == 0
    samples = yaml.safe_load(Path("made/config.yaml").read_text())["samples"]
    assert [sample["files"] for sample in samples] == [
        ["../data/a_*.root", "root://b//c.root"], ["../d.root"],
    ]  # fmt: skip
    (loaded, _) = load_config("made/config.yaml").samples
    assert Path(loaded.files[0]).resolve() == tmp_path / "data" / "a_*.root"


def test_without_files_validation_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "weaver.yaml", tmp_path / "config.yaml"
    source.write_text(CONFIG)
    assert main(["convert", str(source), "-o", str(out)]) == 0
    assert main(["validate", str(out)]) != 0
    assert PLACEHOLDER in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("text", "reason"), [
    ("a: &x [1]\nb: *x", "aliases are not supported"),
    ("a: !!python/object/apply:os.system ['ls']", "not readable as YAML"),
    ("#" * 1_000_001, "larger than 1,000,000 bytes"),
    ("[1, 2]", "no mapping"),
    ("[" * 5000, "nested more than 50 deep"),
])  # fmt: skip
def test_files_that_are_no_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    source = tmp_path / "weaver.yaml"
    source.write_text(text)
    assert main(["convert", str(source)]) == 2
    assert reason in capsys.readouterr().err


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "weaver.yaml"
    assert main(["convert", str(source)]) == 2
    assert "weaver.yaml" in capsys.readouterr().err
    source.write_text(CONFIG)
    assert main(["convert", str(source), "--files", "jets.root"]) == 2
    assert "write NAME=GLOB" in capsys.readouterr().err
    assert main(["convert", str(source), "-o", str(source / "out.yaml")]) == 1
    assert "a file is in the place of a folder" in capsys.readouterr().err


@pytest.mark.parametrize("code", re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL))
def test_python_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    jets(tmp_path / "jets.root")
    (config,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    Path("weaver.yaml").write_text(config)
    (command,) = re.findall(r"^\$ hepdata-adapters (.+)$", PAGE, re.MULTILINE)
    assert main(command.split()) == 0
    exec(compile(code, "docs/weaver.md", "exec"), {"__name__": "docs"})
