"""Columns on disk: never wrong, never half, within the limit, and done without where it must be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xxhash

from hepdata_adapters import DatasetConfig
from hepdata_adapters.common.core import cache as cache_module
from hepdata_adapters.common.core.columns import Columns
from hepdata_adapters.common.core.errors import ReplacedError
from hepdata_adapters.common.files import source as source_module
from hepdata_adapters.common.files import unit_folder
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.manifest import FileInfo
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.files.unit_folder import UnitFolder, entry_name
from tests.common.files.test_column_store import check_same
from tests.helpers.samples import write_events
from tests.helpers.servers import HttpServer
from tests.helpers.specs_files import small_units

pytest.importorskip("pyarrow")
BRANCHES = ("MET", "Jet_pt", "Jet_id", "passes", "run_number")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _say_anew() -> None:
    cache_module.say_once.cache_clear()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileInfo:
    small_units(monkeypatch, 100)
    return scanned(write_events(tmp_path / "a.root", 600, step=100))


def scanned(path: object, **keys: object) -> FileInfo:
    document = {"samples": [{"files": str(path), "label": 1}], "features": ["MET"]} | keys
    return scan(DatasetConfig.model_validate(document)).files[0]


def units_of(file: FileInfo, kept: UnitFolder | None = None) -> list[Columns]:
    with Source(BRANCHES, kept=kept) as source:
        return [source.unit(file, number) for number in range(len(file.units) - 1)]


def check_all(file: FileInfo, folder: Path) -> None:
    """Every unit has the right values, in a first pass and in one that finds them."""
    expected = units_of(file)
    for _ in range(2):
        for one, other in zip(units_of(file, UnitFolder(folder)), expected, strict=True):
            check_same(one, other)


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where everything has to come from the folder."""

    def refuse(*_: object) -> None:
        raise AssertionError("the source was read")

    monkeypatch.setattr(source_module, "read_columns", refuse)


def files_in(folder: Path) -> list[Path]:
    return sorted((folder / "units").glob("*/*.arrow"))


def test_what_was_kept_is_found_and_the_source_is_not_opened(file, tmp_path, request) -> None:
    expected = units_of(file)
    units_of(file, UnitFolder(tmp_path / "cache"))
    assert len(files_in(tmp_path / "cache")) == 6
    request.getfixturevalue("no_reading")
    source = Source(BRANCHES, kept=UnitFolder(tmp_path / "cache"))
    for number, columns in enumerate(expected):
        check_same(source.unit(file, number), columns)
    assert not source._open


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer"])
def test_damage_is_noticed_told_once_and_mended(file, tmp_path, capsys, damage) -> None:
    units_of(file, UnitFolder(tmp_path))
    random = np.random.default_rng(1)
    for _ in range(4):
        cache_module.say_once.cache_clear()
        for path in files_in(tmp_path):
            content = bytearray(path.read_bytes())
            place = int(random.integers(len(content)))
            if damage == "flip":
                content[place] ^= 1 << int(random.integers(8))
            elif damage == "longer":
                content += b"\0"
            path.write_bytes({"cut": content[:place], "empty": b""}.get(damage, content))
        check_all(file, tmp_path)
        told = capsys.readouterr().err
        assert told.count("was damaged") == 1
        assert "read from their source again" in told
    assert len(files_in(tmp_path)) == 6
    check_all(file, tmp_path)
    assert capsys.readouterr().err == ""


def test_a_right_checksum_over_wrong_content_is_not_believed(file, tmp_path) -> None:
    """Who can write to the folder could make such a file; a kernel would read past its end."""
    kept = UnitFolder(tmp_path)
    units_of(file, kept)
    entry = files_in(tmp_path)[0].parent
    for columns in (
        {"MET": np.zeros(100)},
        dict.fromkeys(BRANCHES, np.zeros(99)),
        units_of(file)[0] | {"Jet_pt": units_of(file)[1]["Jet_pt"]},
    ):
        for path in files_in(tmp_path):
            path.unlink()
        content = unit_folder.packed(columns)
        if "Jet_id" in columns and columns["MET"].shape == (100,):
            lists = columns["Jet_id"].offsets.tobytes()
            assert lists in bytes(content)
            wrong = columns["Jet_id"].offsets.copy()
            wrong[50] = 2**40
            content = memoryview(bytes(content).replace(lists, wrong.tobytes()))
        name = f"0-100.{xxhash.xxh3_64_hexdigest(content)}.arrow"
        (entry / name).write_bytes(content)
        check_all(file, tmp_path)


def test_a_checksum_is_compared_once_in_a_process(file, tmp_path, monkeypatch) -> None:
    units_of(file, UnitFolder(tmp_path))
    kept, counted = UnitFolder(tmp_path), []
    found = xxhash.xxh3_64_hexdigest

    def counting(content: object) -> str:
        counted.append(1)
        return found(content)

    monkeypatch.setattr(unit_folder.xxhash, "xxh3_64_hexdigest", counting)
    for _ in range(3):
        units_of(file, kept)
    assert len(counted) == 6


def test_everything_that_decides_the_columns_is_in_the_name(file, tmp_path, monkeypatch) -> None:
    names = {entry_name(file, BRANCHES)}

    def other(changed: FileInfo, branches: tuple[str, ...] = BRANCHES) -> None:
        before = len(names)
        names.add(entry_name(changed, branches))
        assert len(names) == before + 1

    path = tmp_path / "a.root"
    other(file, BRANCHES[:-1])
    other(file, BRANCHES[::-1])
    other(replace(file, units=file.units[[0, -1]]))
    other(replace(file, record=tmp_path / "record"))
    objects = {"Jet": {"selection": "Jet_pt > 30"}}
    other(scanned(path, objects=objects))
    other(scanned(path, objects={"Jet": {"selection": "Jet_pt > 31"}}))
    other(scanned(path, objects={"Jet": objects["Jet"] | {"sort_by": "Jet_pt"}}))
    derived = (*BRANCHES, "twice")
    other(scanned(path, columns={"twice": "MET * 2"}), derived)
    other(scanned(path, columns={"twice": "MET * 3"}), derived)
    assert entry_name(scanned(path, columns={"twice": "MET * 2"}), BRANCHES) in names  # not asked
    assert entry_name(scanned(path), BRANCHES) in names
    os.utime(path, ns=(1, 1))
    other(scanned(path))
    other(scanned(write_events(path, 600, seed=1, step=100)))
    for module, name, value in (
        (unit_folder, "FORMAT", -1), (unit_folder, "__version__", "x"), (np, "__version__", "x"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            other(file)


def test_a_source_that_changes_while_it_is_read_is_not_kept(file, tmp_path) -> None:
    path = Path(file.url)
    with Source(BRANCHES, kept=UnitFolder(tmp_path / "cache")) as source:
        source.unit(file, 0)
        write_events(tmp_path / "b.root", 600, seed=3, step=100).replace(path)
        with pytest.raises(ReplacedError):
            source.unit(file, 1)
    assert len(files_in(tmp_path / "cache")) == 1


def test_a_remote_file_is_read_once_and_a_new_one_is_noticed(tmp_path, monkeypatch) -> None:
    small_units(monkeypatch, 1000)
    with HttpServer() as server:
        path = write_events(server.folder / "a.root", 3000, step=1000)
        file = scanned(server.url("a.root"))
        expected = units_of(file, UnitFolder(tmp_path))
        server.forget()
        for one, other in zip(units_of(file, UnitFolder(tmp_path)), expected, strict=True):
            check_same(one, other)
        assert server.requests() == []
        write_events(path, 3000, seed=5, step=1000)
        os.utime(path, (10**9, 10**9))
        check_all(scanned(server.url("a.root")), tmp_path)


def test_the_limit_counts_every_byte_and_is_told_once(file, tmp_path, capsys) -> None:
    units_of(file, UnitFolder(tmp_path / "whole"))
    size = max(path.stat().st_size for path in files_in(tmp_path / "whole"))
    folder = tmp_path / "cache"
    kept = UnitFolder(folder, 3 * size + 10)
    for one, other in zip(units_of(file, kept), units_of(file), strict=True):
        check_same(one, other)
    assert 2 <= len(files_in(folder)) <= 3
    assert UnitFolder(folder).used() <= 3 * size + 10
    assert kept.stopped
    told = capsys.readouterr().err
    assert told.count("no more columns are kept") == 1
    assert "raise reading.cache_limit" in told
    # room that is made by hand is found by the next process
    for path in files_in(folder):
        path.unlink()
    units_of(file, UnitFolder(folder, 3 * size + 10))
    assert 2 <= len(files_in(folder)) <= 3
    units_of(file, UnitFolder(folder, 0))
    assert 2 <= len(files_in(folder)) <= 3
    check_all(file, folder)


def test_a_folder_that_cannot_be_written_is_done_without_and_said_once(
    file, tmp_path, capsys
) -> None:
    place = tmp_path / "file"
    place.write_text("")
    kept = UnitFolder(place)
    for one, other in zip(units_of(file, kept), units_of(file), strict=True):
        check_same(one, other)
    told = capsys.readouterr().err
    assert told.count("no more columns are kept") == 1
    assert "a file is in the place of a folder" in told


def test_a_full_disk_is_done_without(file, tmp_path, capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    units_of(file, UnitFolder(tmp_path / "other"))
    kept = UnitFolder(tmp_path / "cache")
    monkeypatch.setattr(os, "fsync", full)
    for one, other in zip(units_of(file, kept), units_of(file), strict=True):
        check_same(one, other)
    assert "there is no space left" in capsys.readouterr().err
    assert kept.used() == 0


def test_a_folder_that_may_only_be_read_is_read(file, tmp_path, capsys, monkeypatch) -> None:
    units_of(file, UnitFolder(tmp_path))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(unit_folder, "whole_file", refuse)
    check_all(file, tmp_path)
    assert capsys.readouterr().err == ""


def test_two_threads_and_two_folders_write_the_same_unit(file, tmp_path) -> None:
    expected, wrong = units_of(file), []

    def work(kept: UnitFolder) -> None:
        try:
            for one, other in zip(units_of(file, kept), expected, strict=True):
                check_same(one, other)
        except BaseException as error:
            wrong.append(error)
            raise

    for number in range(5):
        folder = tmp_path / str(number)
        shared = UnitFolder(folder)
        threads = [
            threading.Thread(target=work, args=(kept,))
            for kept in (shared, shared, UnitFolder(folder), UnitFolder(folder))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(files_in(folder)) == 6
        assert [path.name for path in folder.rglob("*.partial")] == []


WRITER = """
import sys
from pathlib import Path
from hepdata_adapters.common.files.unit_folder import UnitFolder
from tests.common.files.test_unit_folder import BRANCHES, scanned, small_units, units_of
import pytest
small_units(pytest.MonkeyPatch(), 100)
file = scanned(sys.argv[1])
units_of(file, UnitFolder(Path(sys.argv[2])))  # with all that is slow the first time
print("ready", flush=True)
while True:
    units_of(file, UnitFolder(Path(sys.argv[2])))
    for path in UnitFolder(Path(sys.argv[2]))._units.glob("*/*.arrow"):
        path.unlink(missing_ok=True)
"""


def test_a_killed_writer_leaves_nothing_half(file, tmp_path) -> None:
    folder, random, left = tmp_path / "cache", np.random.default_rng(2), []
    command = [sys.executable, "-c", WRITER, file.url, str(folder)]
    seen = 0
    for number in range(20):
        if number > 3 and seen and left:
            break
        writers = [
            subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)
        ]  # of the same units at the same time
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == b"ready\n"
        time.sleep(float(random.uniform(0.05, 0.5)))
        for writer in writers:
            assert writer.poll() is None
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        left += [path.name for path in folder.rglob("*.partial")]
        for path in files_in(folder):
            assert xxhash.xxh3_64_hexdigest(path.read_bytes()) == path.name.split(".")[1]
            seen += 1
        check_all(file, folder)
        assert UnitFolder(folder).used() == sum(path.stat().st_size for path in files_in(folder))
        assert [path.name for path in folder.rglob("*.partial")] == []
    assert seen
    assert left  # some were killed while they wrote


LIMITED = """
import sys
from pathlib import Path
from hepdata_adapters.common.files.unit_folder import UnitFolder
from tests.common.files.test_unit_folder import BRANCHES, scanned, small_units, units_of
import pytest
small_units(pytest.MonkeyPatch(), int(sys.argv[3]))
file = scanned(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
units_of(file, UnitFolder(Path(sys.argv[2]), int(sys.argv[4])))
"""


def test_several_processes_keep_to_one_limit(file, tmp_path) -> None:
    """Of other entry ranges each, so that all have files of their own to write."""
    folder, limit = tmp_path / "cache", 40_000
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", LIMITED, file.url, str(folder), str(entries), str(limit)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        )
        for entries in (20, 25, 33)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == b"ready\n"  # noqa: PT018
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    counted, most = UnitFolder(folder), 0
    while any(writer.poll() is None for writer in writers):
        most = max(most, counted.used())
    said = [writer.communicate()[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], said
    assert limit // 2 < max(most, counted.used()) <= limit
    assert all(text.count("no more columns are kept") == 1 for text in said), said
