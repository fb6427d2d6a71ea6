"""Flipped bits, cut files, damaged offsets: an error of ours, and never silent under checksum."""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.damage.files import KINDS, write
from benchmarks.damage.flips import flip, flips, outcome, read_all, truncations
from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError, FileError
from hepdata_adapters.common.files import baskets, checksums, source
from hepdata_adapters.common.files.catalogue import matched, read_catalogue
from hepdata_adapters.common.files.checksums import Record, checksum
from tests.helpers.samples import write_events

WITH_CHECKSUMS = Path(__file__).parents[2] / "data" / "checksums-rntuple.root"  # written by ROOT


@pytest.mark.parametrize("kind", KINDS)
def test_flips_are_errors_or_harmless_under_checksum(kind: str, tmp_path: Path):
    path = write(tmp_path / "a.root", kind, 400)
    counts, errors = flips(path, 60, verify="checksum")
    assert set(counts) <= {"error", "unharmed"}, errors
    assert counts["error"] > 10
    read_all(path, verify="checksum")  # whole again


@pytest.mark.parametrize("kind", ["TTree none", "TTree ZSTD", "RNTuple LZ4"])
def test_damage_is_never_a_foreign_error(kind: str, tmp_path: Path):
    path = write(tmp_path / "a.root", kind, 400)
    for work, count in ((flips, 100), (truncations, 20)):
        counts, errors = work(path, count)
        assert not counts["foreign"], errors
        assert not counts["hang"], errors
    assert counts["silent"] == 0, errors  # of truncations


def test_flips_in_pages_with_checksums_are_always_noticed(tmp_path: Path):
    path = Path(shutil.copy(WITH_CHECKSUMS, tmp_path))
    counts, errors = flips(path, 150)
    assert set(counts) <= {"error", "unharmed"}, errors
    assert any("does not agree with its checksum" in error for error in errors)


def test_without_a_record_flips_are_silent(tmp_path: Path):
    """What the tests above would say of a check that does not look."""
    counts, _ = flips(write(tmp_path / "a.root", "TTree none", 400), 60)
    assert counts["silent"] > 10


def test_damaged_offsets_are_named_and_ask_for_no_memory(tmp_path: Path):
    """They ended in IndexError, or asked for 64 GiB."""
    path = write(tmp_path / "a.root", "TTree none", 400)
    whole, truth = path.read_bytes(), read_all(path)
    jets = truth["Jet_pt"]
    assert isinstance(jets, Jagged)
    # a basket's offsets count from its key: three that follow each other are found by their steps
    steps = (4 * np.diff(jets.offsets[40:60])).astype(np.int64)
    raw = np.frombuffer(whole, np.uint8)
    found = [
        start
        for start in range(len(raw) - 80)
        if (np.diff(raw[start : start + 80].view(">i4").astype(np.int64)) == steps[:19]).all()
    ]
    assert found
    for place in found:
        for bit in (8 * place + 7, 8 * place + 6, 8 * (place + 1) + 5):
            path.write_bytes(flip(whole, bit))
            what, error = outcome(path, truth)
            assert what == "error"
            assert "branch Jet_" in error
            assert "the lists of basket 0 end at" in error


@pytest.mark.parametrize("offsets", [[0, 3, 2], [0, 2, 9], [-1, 2, 3], []])
def test_offsets_are_checked(offsets: list[int]):
    with pytest.raises(baskets.DamagedError):
        baskets.check_offsets(np.array(offsets, np.int64), 5)
    baskets.check_offsets(np.array([1, 3, 3, 5]), 5)


def test_a_size_that_cannot_be_is_a_file_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.root", "TTree none", 100)

    def too_much(*_: object) -> None:
        raise MemoryError("Unable to allocate 64.0 GiB")

    monkeypatch.setattr(source, "read_columns", too_much)
    with pytest.raises(FileError, match=r"more memory than there is.*a.root.*branch MET"):
        read_all(path)


def config_of(tmp_path: Path, **keys: object) -> Path:
    path = tmp_path / "config.yaml"
    lines = [f"{key}: {value}" for key, value in keys.items()]
    path.write_text("\n".join(["samples: [{files: a.root, label: 1}]", *lines]))
    return path


def flipped_in_data(path: Path) -> None:
    """Change one bit of a value of MET."""
    data = path.read_bytes()
    met = read_all(path)["MET"]
    place = data.index(np.asarray(met[5:9]).astype(">f4").tobytes())
    path.write_bytes(flip(data, 8 * place + 3))


def test_the_command_names_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, config = write(tmp_path / "a.root", "TTree none", 400), config_of(tmp_path)
    assert main(["verify", str(config)]) == 0
    said = capsys.readouterr().out
    assert "good" in said
    assert main(["verify", str(config)]) == 0
    assert capsys.readouterr().out != said  # compared, no longer learned
    flipped_in_data(path)
    assert main(["verify", str(config)]) == 1
    said = capsys.readouterr().out
    assert "DIFFERS" in said
    assert "branch MET, entries 0 to 400: the data changed since 20" in said
    # a training stops there as well, and what the message advises works
    assert main(["specs", str(config), "--set", "verify=checksum", "-o", f"{tmp_path}/s.json"]) == 1
    error = capsys.readouterr().err
    assert "branch MET, entries 0 to 400" in error
    assert "verify CONFIG --renew" in error
    assert main(["verify", str(config), "--renew"]) == 0
    assert main(["specs", str(config), "--set", "verify=checksum", "-o", f"{tmp_path}/s.json"]) == 0


def test_size_notices_another_file(tmp_path: Path):
    path = write_events(tmp_path / "a.root", 300)
    read_all(path, verify="size")
    write_events(path, 301)
    with pytest.raises(
        FileError, match=r"changed since .*: size was \d+, is \d+.*--renew.*a\.root"
    ):
        read_all(path, verify="size")
    read_all(path)


def test_a_list_of_checksums_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write(tmp_path / "a.root", "TTree ZSTD", 400)
    value = f"{zlib.adler32(path.read_bytes()):08x}"
    (tmp_path / "sums").write_text(f"# of the grid\n{value} store/user/{tmp_path.name}/a.root\n")
    config = config_of(tmp_path, verify="checksum", checksums="sums")
    assert "no checksum of" in refused(lambda: main(["verify", str(config)]), capsys)
    (tmp_path / "sums").write_text(f'{{"{tmp_path.name}/a.root": "adler32:{value}"}}')
    assert main(["verify", str(config)]) == 0
    assert "agrees" in capsys.readouterr().out
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["verify", str(config)]) == 1
    assert f"the list of checksums says {value}" in capsys.readouterr().out
    with pytest.raises(FileError, match=f"its adler32 is .*says {value}.*a.root"):
        read_all(path, verify="checksum", checksums=str(tmp_path / "sums"))


def refused(work: object, capsys: pytest.CaptureFixture[str]) -> str:
    assert callable(work)
    assert work() == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("zz a.root", "line 1"),
        ("[{", "no JSON"),
        ("[1]", "without name"),
        ('{"a.root": "12"}', "8 hexadecimal"),
        ("11111111 a.root\n22222222 a.root", "gives two"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, said: str):
    path = tmp_path / "sums"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_catalogue(path)


def test_a_list_is_matched_by_the_longest_end_of_the_path():
    sums = {"a.root": "1", "y/a.root": "2", "z/a.root": "3"}
    urls = ["root://h:1//x/a.root", "/y/a.root", "http://h/z/a.root"]
    assert list(matched(sums, urls).values()) == ["1", "2", "3"]


def test_two_processes_share_a_record(tmp_path: Path):
    one, other = Record(tmp_path / "r.jsonl"), Record(tmp_path / "r.jsonl")
    good, bad = {"x": np.arange(5)}, {"x": np.arange(1, 6)}
    assert not one.compare(good, 0, 5)
    assert not other.compare(good, 0, 5)
    difference = other.compare(bad, 0, 5)[0]
    assert (difference.branch, difference.entries) == ("x", (0, 5))
    assert (difference.was, difference.now) == (checksum(good["x"]), checksum(bad["x"]))
    with (tmp_path / "r.jsonl").open("ab") as file:
        file.write(b'{"entries": [0, 1], "bra')  # another is writing
    assert not Record(tmp_path / "r.jsonl").refresh().compare(good, 0, 5)


def test_checksums_tell_lists_and_types_apart():
    content = np.arange(4, dtype=np.float32)
    one = Jagged(content, np.array([0, 1, 4]))
    assert checksum(one) != checksum(Jagged(content, np.array([0, 2, 4])))
    assert checksum(content) != checksum(content.view(np.int32))
    assert checksum(np.array([0.0])) != checksum(np.array([-0.0]))
    assert checksum(one) == checksum(Jagged(content, np.array([0, 1, 4]) + 0))


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_events(tmp_path / "a.root", 30)
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("HEPDATA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"cannot be written.*HEPDATA_CACHE"):
        read_all(path, verify="checksum")


def test_a_list_needs_a_level(tmp_path: Path):
    with pytest.raises(ValueError, match="checksums needs verify"):
        read_all(tmp_path / "a.root", checksums="sums")


def test_times_are_utc():
    assert checksums.now().endswith("+00:00")
