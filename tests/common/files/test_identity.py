"""Content is known by what a file holds: caches of other content are not used, and a file that
becomes another while it is read is noticed."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
from hepdata_adapters.common.core.errors import ConfigError, ReplacedError, SpecsError
from hepdata_adapters.common.files import http
from hepdata_adapters.common.files.content import Content
from hepdata_adapters.common.files.manifest import build_manifest, scan_file
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.specs.compute import compute_specs
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.servers import HttpServer, XrootdServer

OLD, NEW = 0.0, 1e6
YEAR_2000 = 946_684_800


def write(path: Path, base: float, entries: int = 20_000, *, rntuple: bool = False) -> Path:
    """A file in units of 2,500 events; of the same size and layout whatever the values."""
    with uproot.recreate(path, compression=None) as file:
        values = base + np.arange(entries, dtype=float)
        parts = [{"x": part, "w": part * 0 + 1 + base} for part in np.split(values, 8)]
        if rntuple:
            file["Events"] = parts[0]
        else:
            file.mktree("Events", {"x": "float64", "w": "float64"})
            file["Events"].extend(parts[0])
        for part in parts[1:]:
            file["Events"].extend(part)
    return path


def with_uuid_of(path: Path, other: Path) -> None:
    """Give a file the UUID of another, as writing reproducibly does."""
    uuids = [uproot.open(file).file.uuid.bytes for file in (path, other)]
    path.write_bytes(path.read_bytes().replace(*uuids))
    assert uproot.open(path).file.uuid == uproot.open(other).file.uuid


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of one UUID, size and layout, with other values."""
    old, new = write(tmp_path / "a.root", OLD), write(tmp_path / "b.root", NEW)
    with_uuid_of(new, old)
    assert old.stat().st_size == new.stat().st_size
    return old, new


def overwrite(path: Path, other: Path) -> None:
    """In place: the file stays the same one."""
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def rename(path: Path, other: Path) -> None:
    """As skims are written: the name gets another file, at once."""
    other.rename(path)


def values_of(
    url: str | Path, batches: int | None = None, **options: object
) -> Iterator[np.ndarray]:
    dataset = RootIterableDataset(
        str(url), features=[{"branch": "x", "scaling": "none"}], batch_size=100,
        sampling={"chunk_size": 1000}, progress=False,
    )  # fmt: skip
    for batch in DataLoader(dataset, batch_size=None, **options):  # type: ignore[arg-type]
        yield batch["x"].numpy()


class TestSameUuid:
    def test_two_files_of_one_uuid_are_two_files(self, twins: tuple[Path, Path]) -> None:
        """They were refused as one file that is listed twice."""
        old, new = twins
        found = RootIterableDataset(
            {str(old): 0, str(new): 1}, features=[{"branch": "x", "scaling": "none"}],
            batch_size=1000, progress=False,
        )  # fmt: skip
        batches = list(found)
        x = np.concatenate([batch["x"][:, 0].numpy() for batch in batches])
        label = np.concatenate([batch["label"].numpy() for batch in batches])
        for number, base in enumerate((OLD, NEW)):
            np.testing.assert_array_equal(np.sort(x[label == number]), base + np.arange(20_000))

    @pytest.mark.parametrize("link", [shutil.copy, os.symlink, os.link])
    def test_the_same_file_twice_is_refused(
        self, tmp_path: Path, link: Callable[[Path, Path], object]
    ) -> None:
        first, second = write(tmp_path / "a.root", OLD, 800), tmp_path / "b.root"
        link(first, second)
        samples = [Sample(files=(str(first),)), Sample(files=(str(second),))]
        with pytest.raises(ConfigError, match=rf"b\.root:Events is listed twice, also as {first}"):
            build_manifest(samples)

    def test_the_tree_of_each_file_is_its_own(self, twins: tuple[Path, Path]) -> None:
        with Source(["x"]) as source:
            read = [source.read(scan_file(0, str(path), None), 0, 1)["x"][0] for path in twins]
        assert read == [OLD, NEW]


class TestCaches:
    @pytest.mark.parametrize("change", [overwrite, rename])
    def test_statistics_and_sums_of_the_old_content_are_not_used(
        self, twins: tuple[Path, Path], tmp_path: Path, change: Callable[[Path, Path], None]
    ) -> None:
        """Same UUID, same baskets, same size: only the values and the time are others."""
        old, new = twins
        weight = {"branch": "w", "cross_section": 1.0, "luminosity": 200.0}
        config = DatasetConfig.model_validate(
            {"samples": [{"files": str(old), "weight": weight}], "features": ["x"]}
        )

        def prepared() -> tuple[float, float]:
            found = Dataset.prepare(config, cache=tmp_path / "cache")
            constant = found.config.samples[0].weight.constant
            return found.specs.branches["x"].mean, 200.0 / constant

        for _ in range(2):
            mean, total = prepared()
            assert mean == pytest.approx(10_000, rel=0.02)
            assert total == pytest.approx(20_000)
        assert len(list((tmp_path / "cache").glob("specs-*"))) == 1
        change(old, new)
        mean, total = prepared()
        assert mean == pytest.approx(1_010_000, rel=0.001)
        assert total == pytest.approx(20_000 * (1 + NEW))

    def test_a_tree_written_again_by_uproot_update(self, tmp_path: Path) -> None:
        path = tmp_path / "a.root"
        with uproot.recreate(path) as file:
            file["Events"] = {"x": np.arange(200.0)}
        first = Dataset.prepare(config_of(path), cache=tmp_path / "cache")
        with uproot.update(path) as file:
            del file["Events"]
            file["Events"] = {"x": np.arange(200.0) * 1000}
        again = Dataset.prepare(config_of(path), cache=tmp_path / "cache")
        assert first.manifest.files[0].uuid == again.manifest.files[0].uuid
        assert again.specs.branches["x"].maximum > 1000 * (first.specs.branches["x"].minimum or 0)
        assert again.specs.branches["x"].mean > 500 * first.specs.branches["x"].mean

    @pytest.mark.parametrize("rntuple", [False, True])
    def test_specs_that_were_given_fit_copies_and_nothing_else(
        self, tmp_path: Path, rntuple: bool
    ) -> None:
        """A copy elsewhere has another time; specs are not made anew, and name it as it is here."""
        path = write(tmp_path / "a.root", OLD, rntuple=rntuple)
        specs = compute_specs(config_of(path))
        (tmp_path / "there").mkdir()
        copy = Path(shutil.copy(path, tmp_path / "there"))
        os.utime(copy, (YEAR_2000, YEAR_2000))
        prepared = Dataset.prepare(config_of(copy), specs)
        record = prepared.specs.binding.files[0]
        assert (record.url, record.state) == (str(copy), f"{YEAR_2000}000000000")
        assert prepared.specs.hash == specs.hash
        other = write(tmp_path / "there" / "a.root", NEW, rntuple=rntuple)
        with_uuid_of(other, path)
        with pytest.raises(SpecsError, match="belong to other data"):
            Dataset.prepare(config_of(other), specs)

    def test_what_makes_a_difference(self) -> None:
        content = Content("a", 10, "1")
        assert not content.difference(Content("a", 10, ""))  # a server that says nothing
        assert "had 10 bytes, it has 12" in content.difference(Content("b", 12, "1"))
        assert "tree" in content.difference(Content("b", 10, "1"))


def config_of(path: Path) -> DatasetConfig:
    return DatasetConfig.model_validate({"samples": [{"files": str(path)}], "features": ["x"]})


class TestReplaced:
    """55,000 of 60,000 events came from the new file, without a word."""

    @pytest.mark.parametrize("change", [overwrite, rename])
    @pytest.mark.parametrize("options", [{}, {"num_workers": 2}], ids=["alone", "workers"])
    def test_in_the_middle_of_an_epoch(
        self,
        twins: tuple[Path, Path],
        change: Callable[[Path, Path], None],
        options: dict[str, int],
    ) -> None:
        values = values_of(twins[0], **options)
        got = [next(values) for _ in range(5)]
        change(*twins)
        with pytest.raises(ReplacedError, match=r"replaced or written to.*Begin again") as caught:
            got.extend(values)
        assert "corrupt" not in str(caught.value)
        assert str(twins[0]) in str(caught.value)
        assert np.concatenate(got).max() < NEW
        new = np.concatenate(list(values_of(twins[0])))
        assert np.array_equal(np.sort(new[:, 0]), NEW + np.arange(20_000))

    @pytest.mark.parametrize("change", [overwrite, rename])
    @pytest.mark.parametrize("kind", [HttpServer, XrootdServer])
    def test_on_a_server(
        self,
        twins: tuple[Path, Path],
        change: Callable[[Path, Path], None],
        kind: type[HttpServer] | type[XrootdServer],
    ) -> None:
        if kind is XrootdServer and (reason := XrootdServer.missing()):
            pytest.skip(reason)
        with kind() as server:
            old, new = (Path(shutil.copy(path, server.folder)) for path in twins)
            os.utime(old, (YEAR_2000, YEAR_2000))  # its time has no fractions of a second
            values = values_of(server.url("a.root"))
            got = [next(values) for _ in range(5)]
            change(old, new)
            with pytest.raises(ReplacedError, match=r"replaced or written to.*a\.root"):
                got.extend(values)
            if (kind, change) != (XrootdServer, overwrite):  # then only at the end of the pass
                assert np.concatenate(got).max() < NEW
            new_values = np.concatenate(list(values_of(server.url("a.root"))))
            assert new_values.min() == NEW

    @pytest.mark.parametrize("what", ["gone", "down"])
    def test_a_server_that_is_down_has_not_replaced_it(
        self, twins: tuple[Path, Path], what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At the end of a pass, all of whose answers were of one content."""
        monkeypatch.setattr(http, "PATIENCE", http.Patience(tries=1))
        with HttpServer() as server:
            there = Path(shutil.copy(twins[0], server.folder))
            file = scan_file(0, server.url("a.root"), None)
            source = Source(["x"])
            source.read(file, 0, file.entries)
            if what == "down":
                server.kill()
                source.check()
            else:
                there.unlink()
                with pytest.raises(ReplacedError, match="no longer there"):
                    source.check()
            source.close()

    def test_before_it_is_opened_again(self, twins: tuple[Path, Path], tmp_path: Path) -> None:
        """More files than may be open: each is closed and opened again and again."""
        files = [scan_file(0, str(path), None) for path in (twins[0], write(tmp_path / "c", 5.0))]
        with Source(["x"], max_open=1) as source:
            for file in files:
                assert source.read(file, 0, 1)["x"][0] in (OLD, 5.0)
            rename(*twins)
            with pytest.raises(ReplacedError, match="the places of its data are others"):
                source.read(files[0], 0, 1)

    def test_between_reading_and_the_end_of_a_pass(self, twins: tuple[Path, Path]) -> None:
        file = scan_file(0, str(twins[0]), None)
        source = Source(["x"])
        source.read(file, 0, file.entries)
        rename(*twins)
        with pytest.raises(ReplacedError):
            source.check()

    def test_a_file_that_is_cut_short_is_no_damage(self, twins: tuple[Path, Path]) -> None:
        """And does not end the process, as a memory map would."""
        file = scan_file(0, str(twins[0]), None)
        with Source(["x"]) as source:
            source.read(file, 0, 10)
            os.truncate(twins[0], 1000)
            with pytest.raises(ReplacedError, match="it is 1,000 bytes"):
                source.read(file, 10_000, 20_000)

    def test_a_file_that_is_gone(self, twins: tuple[Path, Path]) -> None:
        file = scan_file(0, str(twins[0]), None)
        with Source(["x"]) as source:
            source.read(file, 0, 10)
            twins[0].unlink()
            with pytest.raises(ReplacedError, match="no longer there"):
                source.read(file, 10_000, 20_000)


def test_a_replaced_file_is_told_of_once_in_other_processes_too():
    error = ReplacedError.by("its size was 10, it is 12", "a.root")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.file) == (str(error), "a.root")
