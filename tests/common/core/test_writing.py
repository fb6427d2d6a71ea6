"""Folders that cannot be written: the cache is done without, what must be written fails first."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core import cache as cache_module
from hepdata_adapters.common.core import writing
from hepdata_adapters.common.core.cache import cache_folder
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.core.ledger import NOWHERE, Ledger, SharedLedger
from hepdata_adapters.common.core.writing import check_writable, whole_file, write_whole
from hepdata_adapters.common.inference.score_writer import ScoreWriter
from hepdata_adapters.common.stream.prepare import prepare
from tests.helpers.samples import write_events

MS_RDONLY, MS_REMOUNT = 1, 32


def mounted(folder: Path, options: str, flags: int = 0) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mount(b"tmpfs", bytes(folder), b"tmpfs", flags, options.encode()) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or not mounted(folder, "size=64k"):
        pytest.skip("no right to mount a small disk")
    yield folder
    ctypes.CDLL(None).umount(bytes(folder))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_events(tmp_path / "events.root", 200)


@pytest.fixture
def config(tmp_path: Path, file: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"samples: [{{files: {file}, label: 1}}]\nfeatures: [MET]\n")
    return path


@pytest.fixture(autouse=True)
def _say_anew() -> None:
    cache_module.say_once.cache_clear()


def fill(disk: Path) -> None:
    with (disk / "full").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"0" * 4096)


def test_a_full_disk_is_said_with_what_to_do_and_the_old_file_stays(small_disk):
    path = small_disk / "specs.json"
    write_whole(path, "old")
    with pytest.raises(FileError, match=r"no space left: free some.*file .*specs\.json"):
        write_whole(path, b"0" * 100_000)
    assert path.read_text() == "old"
    assert os.listdir(small_disk) == ["specs.json"]
    fill(small_disk)
    with pytest.raises(FileError, match="no space left"):
        check_writable(small_disk / "other")


def test_scores_that_do_not_fit_on_the_disk_are_no_file(small_disk):
    def written(name: str) -> None:
        with ScoreWriter(small_disk / name) as writer:
            for _ in range(10):
                writer.write({"score": np.random.default_rng(1).random(10_000)})

    for name in ("scores.root", "scores.parquet"):
        if name.endswith("parquet"):
            pytest.importorskip("pyarrow")
        with pytest.raises(FileError, match=rf"no space left.*{name}"):
            written(name)
    assert os.listdir(small_disk) == []


def test_a_read_only_disk_is_said(small_disk):
    if not mounted(small_disk, "size=64k", MS_REMOUNT | MS_RDONLY):
        pytest.skip("no right to mount a disk read-only")
    with pytest.raises(FileError, match="file system is read-only: write elsewhere"):
        check_writable(small_disk / "new" / "specs.json")


def test_a_file_in_the_place_of_a_folder_is_said(file):
    with pytest.raises(FileError, match="a file is in the place of a folder"):
        check_writable(file / "specs.json")
    with pytest.raises(FileError, match="it is a folder: name a file"):
        check_writable(file.parent)


def test_a_cache_that_cannot_be_written_is_done_without_and_said_once(
    file, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("HEPDATA_CACHE", str(file / "cache"))
    for _ in range(2):
        samples = {str(file): 1}
        options = {"features": ["MET"], "sampling": {"resample": True}}
        prepared = prepare(samples, options, progress=False)
        assert prepared.specs.events() == 200
        assert prepared.notes().count("files not kept in the cache", str(file / "cache")) == 2
    said = capsys.readouterr().err
    assert said.count("nothing is kept in the cache") == 1
    assert "HEPDATA_CACHE names another folder" in said


def test_a_cache_without_a_name_is_the_usual_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HEPDATA_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().is_absolute()
    assert cache_folder().name == "hepdata-adapters"


@pytest.mark.parametrize(
    "command",
    [
        ["specs", "CONFIG", "-o", "FILE/specs.json"],
        ["report", "CONFIG", "-o", "FILE/report.html"],
        ["fit", "CONFIG", "-o", "FILE/run"],
        ["predict", "no run", "FILE", "-o", "FILE/scores.root"],
        ["export", "no run", "--format", "onnx", "-o", "FILE/served"],
    ],
    ids=lambda words: words[0],
)
def test_what_must_be_written_fails_before_the_work(command, config, file, capsys, monkeypatch):
    def read(*_: object) -> None:
        raise AssertionError("data were read")

    monkeypatch.setattr("hepdata_adapters.common.files.source.Source.read", read)
    words = [word.replace("CONFIG", str(config)).replace("FILE", str(file)) for word in command]
    assert main(words) == 1
    assert "a file is in the place of a folder: name another place" in capsys.readouterr().err


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    host = writing._host()
    dead = tmp_path / f".a.json.{host}-{int(done.stdout)}.partial"
    elsewhere = tmp_path / f".a.json.00000000-{int(done.stdout)}.partial"
    old = tmp_path / ".b.json.00000000-1.partial"
    kept = [tmp_path / f".a.json.{host}-{os.getppid()}.partial", elsewhere,
            tmp_path / "mine.partial", tmp_path / ".editor.partial"]  # fmt: skip
    for path in (dead, old, *kept):
        path.touch()
    os.utime(old, (0, 0))
    os.utime(kept[2], (0, 0))
    write_whole(tmp_path / "new.json", "x")
    assert set(tmp_path.iterdir()) == {*kept, tmp_path / "new.json"}


def test_an_error_of_something_else_stays_what_it_is_and_leaves_nothing(tmp_path):
    def fail() -> None:
        with whole_file(tmp_path / "a.txt") as partial:
            partial.touch()
            raise ConnectionError("the server")

    with pytest.raises(ConnectionError, match="the server"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 120)
    write_whole(path, "x")
    assert path.read_text() == "x"


def test_a_ledger_without_a_folder_knows_what_this_process_counted(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    shared = SharedLedger()
    assert shared.folder == NOWHERE
    counts = Ledger()
    for _ in range(2):  # the total so far takes the place of what was said before
        counts.add("values clipped", 3, "MET")
        shared.write("1", counts)
    shared.write("2", counts)
    assert shared.read().count("values clipped", "MET") == 12
    shared.note("1")[:] = 1
    assert shared.read_note(1) is None
    assert "TMPDIR names one" in capsys.readouterr().err


def test_a_ledger_on_a_full_disk_goes_on(small_disk, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(small_disk))
    shared = SharedLedger()
    counts = Ledger()
    counts.add("values clipped", 3, "MET")
    shared.write("1", counts)
    fill(small_disk)
    counts.add("values clipped", 4, "MET")
    shared.write("1", counts)
    assert shared.read().count("values clipped", "MET") == 7
    assert "no space left" in capsys.readouterr().err
