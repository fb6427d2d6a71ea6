"""Specs that are corrupt or of other data are refused and left as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters import DatasetConfig, Sample, Specs, compute_specs
from hepdata_adapters.common.core.errors import SpecsError
from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.faults import PLAIN, says, write


@pytest.fixture
def two_files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{name}.root", 200) for name in "ab"]


@pytest.fixture
def specs_file(two_files: list[Path], tmp_path: Path) -> Path:
    path = tmp_path / "specs.json"
    compute_specs(config_of(two_files, None)).save(path)
    return path


def config_of(files: list[Path], specs: Path | None, **options: Any) -> DatasetConfig:
    return DatasetConfig(
        samples=[Sample(files=files)], specs=None if specs is None else str(specs), **options
    )


def refused(files: list[Path], specs: Path, **options: Any) -> str:
    """What is said about specs that do not fit; they must stay as they are."""
    before = specs.read_bytes()
    with pytest.raises(SpecsError) as caught:
        RootIterableDataset(config_of(files, specs, **options), progress=False)
    assert specs.read_bytes() == before
    message = str(caught.value)
    assert str(specs) in message
    assert "\n" not in message
    return message


def test_fitting_specs_are_used_and_left_alone(two_files, specs_file):
    before = specs_file.read_bytes()
    dataset = RootIterableDataset(config_of(two_files, specs_file), batch_size=8, progress=False)
    assert dataset.specs == Specs.load(specs_file)
    assert specs_file.read_bytes() == before


def test_specs_of_more_or_fewer_files_are_refused(two_files, specs_file, tmp_path):
    third = write(tmp_path / "c.root", 10)
    assert f"{third} was added" in refused([*two_files, third], specs_file)
    assert f"{two_files[1]} is gone" in refused(two_files[:1], specs_file)
    assert "another order" in refused(two_files[::-1], specs_file)


def test_specs_of_a_rewritten_file_are_refused(two_files, specs_file):
    write(two_files[0], 200)
    message = refused(two_files, specs_file)
    assert f"{two_files[0]} was written again, its content is another" in message
    assert "hepdata-adapters specs" in message


def test_specs_of_another_split_are_refused(two_files, specs_file):
    other = {"train": 0.5, "validation": 0.25, "test": 0.25}
    message = refused(two_files, specs_file, split=other)
    for said in ("split.train is 0.5, was 0.64", "split.validation is 0.25, was 0.16"):
        assert said in message
    assert "split.seed is 1, was 0" in refused(two_files, specs_file, split={"seed": 1})
    assert "split.identity" in refused(two_files, specs_file, split={"identity": "entry"})


def test_specs_without_a_branch_are_refused(two_files, specs_file):
    compute_specs(config_of(two_files, None, features=["MET"])).save(specs_file)
    message = refused(two_files, specs_file)
    assert "no statistics of" in message
    assert "Jet_pt" in message


def test_missing_specs_are_not_made_in_silence(two_files, tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SpecsError, match=says(path)):
            RootIterableDataset(config_of(two_files, path), progress=False)
    assert not (tmp_path / "none.json").exists()


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(b""), "corrupt"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "corrupt"),
        (lambda path: path.write_bytes(b"\xff" * 100), "corrupt"),
        (lambda path: path.write_text("[]"), "corrupt"),
        (edit(lambda d: d.update(version=1)), "version"),
        (edit(lambda d: d.update(format="other")), "format"),
        (edit(lambda d: d.update(extra=1)), "extra"),
        (edit(lambda d: d.pop("branches")), "branches"),
        (edit(lambda d: d["branches"].pop("MET")), "corrupt"),
        (edit(lambda d: d["binding"]["split"].update(seed=3)), "hash does not fit"),
        (edit(lambda d: d["binding"]["files"][0].update(entries=7)), "hash does not fit"),
        (edit(lambda d: d["binding"].update(branches=["MET"])), "hash does not fit"),
        (edit(lambda d: d.update(hash="0" * 64)), "hash does not fit"),
        (edit(lambda d: d["branches"]["MET"].update(mean=1e6)), "corrupt"),
        (edit(lambda d: d["branches"]["MET"].update(minimum="x")), "minimum"),
        (edit(lambda d: d["binding"]["files"][0]["counts"].update(train=[1])), "corrupt"),
        (edit(lambda d: d["binding"]["files"][0]["counts"].pop("test")), "corrupt"),
    ],
    ids=[
        "nothing", "cut", "bytes", "list", "version", "format", "key", "no branches", "branch",
        "seed", "entries", "binding", "hash", "mean", "minimum", "counts", "no counts",
    ],
)  # fmt: skip
def test_corrupt_specs_are_refused_and_left_alone(two_files, specs_file, change, said):
    change(specs_file)
    assert said in refused(two_files, specs_file)


@pytest.fixture(scope="module")
def good_specs(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("specs")
    path = folder / "specs.json"
    compute_specs(config_of([write(folder / "a.root")], None)).save(path)
    return path.read_bytes()


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=100)
    | st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(
        json.dumps
    )
)
def test_any_bytes_as_specs_give_a_specs_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecsError):
        Specs.load(path)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_flipped_byte_in_specs_is_noticed_or_harmless(tmp_path_factory, good_specs, data):
    place = data.draw(st.integers(0, len(good_specs) - 1))
    byte = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.json"
    path.write_bytes(good_specs[:place] + bytes([byte]) + good_specs[place + 1 :])
    try:
        loaded = Specs.load(path)
    except SpecsError:
        return
    path.write_bytes(good_specs)
    original = Specs.load(path).model_dump()
    changed = loaded.model_dump()
    for document in (original, changed):
        for file in document["binding"]["files"]:
            file.pop("url")  # a file may be moved
    assert changed == original
