"""``materialize``: all columns that epochs read are on disk, or the command says why not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xxhash
import yaml

from hepdata_adapters.common.core import cache as cache_module
from hepdata_adapters.common.files import source as source_module
from tests.helpers import commands
from tests.helpers.commands import one_line
from tests.helpers.samples import write_events

pytest.importorskip("pyarrow")
call = commands.call
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _say_anew() -> None:
    cache_module.say_once.cache_clear()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Five units of two files; the second file has nothing that is selected."""
    write_events(tmp_path / "a.root", 10_000, step=2500)
    write_events(tmp_path / "b.root", 3000, seed=1, step=3000)
    document = {
        "samples": [
            {"files": "a.root", "label": 1},
            {"files": "b.root", "label": 0, "selection": "MET > 1e9"},
        ],
        "features": ["MET", "Jet_pt"],
        "reading": {"cache": "kept"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def files_in(folder: Path) -> list[Path]:
    return sorted((folder / "units").glob("*/*.arrow"))


@pytest.mark.parametrize("processes", [1, 2])
def test_all_is_written_beside_the_config_and_then_nothing(call, config, processes, monkeypatch):
    answer = call("materialize", config, "--processes", processes)
    assert answer.code == 0
    assert "materializing: 10,000 events" in answer.err
    files = files_in(config.parent / "kept")
    assert len(files) == 4
    assert answer.out.startswith(f"{config.parent / 'kept'}: 4 of 4 units, 4 of them new, ")
    assert answer.out.endswith("iB on disk\n")
    before = [path.stat() for path in files]

    def refuse(*_: object) -> None:
        raise AssertionError("the source was read")

    monkeypatch.setattr(source_module, "read_columns", refuse)
    again = call("materialize", config, "--processes", processes)
    assert again.code == 0
    assert again.err == ""
    assert "4 of 4 units, 0 of them new" in again.out
    assert [path.stat().st_mtime_ns for path in files] == [state.st_mtime_ns for state in before]


def test_what_others_left_there_is_said(call, config):
    call("materialize", config)
    answer = call("materialize", config, "--set", "features=[MET]")
    assert "4 of 4 units, 4 of them new" in answer.out
    assert answer.out.endswith("are of other files or configs\n")


def test_the_option_names_a_folder_beside_the_caller(call, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("materialize", config, "--cache", "here").code == 0
    assert len(files_in(tmp_path / "here")) == 4
    assert not (tmp_path / "kept").exists()


def test_a_config_without_a_folder_is_told_what_to_say(call, config):
    for cache in ("none", "memory"):
        said = one_line(call("materialize", config, "--set", f"reading.cache={cache}"), 2)
        assert "--cache" in said


@pytest.mark.parametrize("processes", [1, 2])
def test_what_does_not_fit_is_exit_code_1(call, config, processes):
    limited = ("--set", "reading.cache_limit=150 kB", "--processes", processes)
    answer = call("materialize", config, *limited)
    assert answer.code == 1
    assert "raise reading.cache_limit" in answer.err
    folder = config.parent / "kept"
    assert sum(path.stat().st_size for path in files_in(folder)) <= 150_000
    assert f"{len(files_in(folder))} of 4 units" in answer.out
    assert call("materialize", config).code == 0
    assert len(files_in(folder)) == 4


def test_a_folder_that_cannot_be_written_is_exit_code_1(call, config):
    answer = call("materialize", config, "--cache", config)
    assert answer.code == 1
    assert "a file is in the place of a folder" in answer.err
    assert "0 of 4 units" in answer.out


@pytest.mark.parametrize("value", ["s3://bucket/x", "''", "3"])
def test_a_cache_that_is_no_folder_is_refused(call, config, value):
    said = one_line(call("materialize", config, "--set", f"reading.cache={value}"), 2)
    assert "reading.cache" in said


def test_it_goes_on_where_it_was_killed(call, config):
    write_events(config.parent / "a.root", 100_000, step=2500)
    folder = config.parent / "kept"
    command = [sys.executable, "-m", "hepdata_adapters", "materialize", str(config)]
    for wanted in (1, 5, 12):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while len(files_in(folder)) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = files_in(folder)
        assert len(found) >= wanted
        for path in found:
            assert xxhash.xxh3_64_hexdigest(path.read_bytes()) == path.name.split(".")[1]
    answer = call("materialize", config)
    assert answer.code == 0
    assert "40 of 40 units" in answer.out
    assert "40 of them new" not in answer.out
    assert [path.name for path in folder.rglob("*.partial")] == []
