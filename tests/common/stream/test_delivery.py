"""The checks of delivery on real files: they hold for what is right and find what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import yaml

from hepdata_adapters.cli.main import main
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.plan.shard import Shard
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.delivery import DeliveryError, exactly_once, identities_only
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.testing import assert_exactly_once, assert_resumes
from tests.helpers.samples import write_events

ROOT = Path(__file__).resolve().parents[3]
DOCS = [
    (path.name, number, code)
    for path in (ROOT / "docs" / "plan.md", ROOT / "docs" / "shuffling.md")
    for number, code in enumerate(re.findall(r"```python\n(.+?)```", path.read_text(), re.DOTALL))
]
OPTIONS = {"sampling": {"chunk_size": 70}}


@pytest.fixture
def dataset(three_files) -> Dataset:
    samples = {str(path): number % 2 for number, path in enumerate(three_files)}
    return prepare(samples, OPTIONS, progress=False)


@pytest.mark.parametrize("split", ["train", "validation", "test", None])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_split_comes_exactly_once(dataset, split, shuffle):
    found = assert_exactly_once(
        dataset, split=split, shuffle=shuffle, global_batch_size=120, workers=(0, 2, 5)
    )
    assert found.events == dataset.specs.events(split)
    assert found.batches == -(-found.events // 120)
    assert len(found.runs) == 9
    assert found.read_again >= 0


def test_any_samples_will_do(three_files, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"samples": [{"files": list(map(str, three_files))}]}))
    assert assert_exactly_once(config, ranks=(1, 2), workers=(1,)).events == 4013
    assert assert_resumes(list(map(str, three_files)), features=["Jet_pt"]).events == 4013


def test_sampling_that_repeats_events_is_not_mistaken_for_a_fault(three_files):
    samples = {str(path): number % 2 for number, path in enumerate(three_files)}
    options = {"sampling": {"balance": "over"}}
    found = assert_exactly_once(samples, split="train", workers=(1,), **options)
    resumed = assert_resumes(samples, split="train", **options)
    assert found.events < resumed.events


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_run_interrupted_before_every_batch_goes_on(dataset, shuffle):
    runs = ((8, 1), (4, 2), (6, 3), (8, 0), (1, 5))
    found = assert_resumes(
        dataset, shuffle=shuffle, global_batch_size=120, runs=runs, stops=range(1, 34)
    )
    assert found.stops == tuple(range(1, 34))
    assert len(found.runs) == 34


def test_ranks_that_cannot_share_the_batches_are_refused(dataset):
    with pytest.raises(ConfigError, match="7 ranks cannot share global batches of 120"):
        assert_exactly_once(dataset, ranks=(7,), global_batch_size=120)
    with pytest.raises(ConfigError, match="at least 1 rank"):
        assert_exactly_once(dataset, ranks=(0,))
    with pytest.raises(ConfigError, match="split is one of"):
        assert_resumes(dataset, split="training")


def test_one_cheap_branch_is_read_beside_label_and_identity(dataset):
    small = identities_only(dataset)
    with EventStream(small, None) as stream:
        plan = small.plan(None, batch_size=100, shuffle=True, seed=0, epoch=0)
        chunk = plan.locate(0, 0, 1)[0].chunk
        assert len(plan.parts(chunk)) > 1
        file = small.manifest.files[0]
        assert stream._chunks._source(file).branches == ("passes",)


# what the checks are for: each fault is put in by hand


def faulty(monkeypatch, change) -> None:
    """Let an EventStream deliver what ``change(shard, batch)`` makes of its batches."""
    faulty_stream(monkeypatch, lambda shard, batches: (change(shard, b) for b in batches))


def faulty_stream(monkeypatch, change) -> None:
    original = EventStream.batches

    def batches(self, steps, shard, *others):
        return change(shard, original(self, steps, shard, *others))

    monkeypatch.setattr(EventStream, "batches", batches)


def with_events(batch, change):
    return batch | {"event": change(batch["event"].copy())}


def test_a_lost_event_is_named(dataset, monkeypatch):
    def lose(events):
        events[(events == [0, 1234]).all(axis=1)] = -1
        return events

    faulty(monkeypatch, lambda shard, batch: with_events(batch, lose))
    with pytest.raises(AssertionError, match=r"of entries \d+ to .*large.root; entry 1234 is lost"):
        assert_exactly_once(dataset)
    entry = "1 ranks × 1 workers"
    with pytest.raises(DeliveryError, match=entry):
        exactly_once(dataset, runs=[(1, 1)])


def test_an_event_that_comes_twice_is_named(dataset, monkeypatch):
    def repeat(events):
        events[events[:, 0] == 1] = [1, 3]
        return events

    faulty(monkeypatch, lambda shard, batch: with_events(batch, repeat))
    with pytest.raises(AssertionError, match=r"entry 3 of .*tiny.root .*twice"):
        assert_exactly_once(dataset)


def test_an_order_that_depends_on_the_workers_is_found(dataset, monkeypatch):
    def reverse(shard: Shard, batch):
        return with_events(batch, lambda e: e[::-1] if shard.workers == 2 else e)

    faulty(monkeypatch, reverse)
    with pytest.raises(AssertionError, match="global batch 0 does not hold the events"):
        assert_exactly_once(dataset, workers=(1, 2))
    with pytest.raises(AssertionError, match="global batch 1 does not hold the events"):
        assert_resumes(dataset)


def test_unequal_ranks_are_found(dataset, monkeypatch):
    def shorten(shard: Shard, batch):
        return with_events(batch, lambda e: e[1:] if shard.rank == 1 else e)

    faulty(monkeypatch, shorten)
    with pytest.raises(AssertionError, match="the ranks get 480, 479 rows of global batch 0"):
        assert_exactly_once(dataset, ranks=(2,))


def test_a_wrong_number_of_batches_is_found(dataset, monkeypatch):
    with monkeypatch.context() as patch:
        faulty_stream(patch, lambda shard, batches: islice(batches, 1))
        with pytest.raises(AssertionError, match="rank 0 ends before batch 1"):
            assert_exactly_once(dataset, workers=(1,))
    faulty_stream(monkeypatch, lambda shard, batches: chain(batches, [{}]))
    with pytest.raises(AssertionError, match="rank 0 goes on after batch 4"):
        assert_exactly_once(dataset, workers=(2,))


# the command


def config_of(folder: Path, files: list[Path]) -> Path:
    path = folder / "config.yaml"
    samples = [{"files": str(file), "label": number % 2} for number, file in enumerate(files)]
    path.write_text(yaml.safe_dump({"samples": samples}))
    return path


def test_validate_checks_the_delivery_of_all_splits(three_files, tmp_path, capsys):
    assert main(["validate", str(config_of(tmp_path, three_files)), "--delivery"]) == 0
    said = capsys.readouterr().out
    for split in ("train", "validation", "test"):
        assert len(re.findall(rf"^split {split}: [\d,]+ events", said, re.MULTILINE)) == 2
    assert said.rstrip().endswith("valid")


def test_validate_fails_where_an_event_is_lost(three_files, tmp_path, capsys, monkeypatch):
    faulty(monkeypatch, lambda shard, batch: with_events(batch, lambda e: e[1:]))
    assert main(["validate", str(config_of(tmp_path, three_files)), "--delivery"]) == 1
    assert "events came of entries" in capsys.readouterr().err


# real processes


@pytest.fixture(scope="module")
def files_of_10007(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("many")
    sizes = [6000, 0, 7, 1000, 3000]
    return [write_events(folder / f"{n}.root", size, seed=n) for n, size in enumerate(sizes)]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker:UserWarning")
@pytest.mark.parametrize(
    ("ranks", "workers", "shuffle"),
    [(1, 0, True), (1, 4, True), (1, 3, False), (2, 2, True), (2, 3, False), (3, 1, True)],
)
def test_dataloader_processes_deliver_10007_events_exactly_once(
    files_of_10007, ranks, workers, shuffle
):
    """Beside the ten combinations of test_dataset.py."""
    pytest.importorskip("torch")
    from torch.utils.data import DataLoader

    from hepdata_adapters.torch import RootIterableDataset

    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(ranks):
        dataset = RootIterableDataset(
            [str(path) for path in files_of_10007], features=["MET"], batch_size=250,
            shuffle=shuffle, rank=rank, world_size=ranks, progress=False,
        )  # fmt: skip
        for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
            seen.update(map(tuple, batch["event"].tolist()))
    seen.pop((-1, -1), None)
    assert len(seen) == 10007
    assert set(seen.values()) == {1}
    entries = Counter(file for file, _ in seen)
    assert entries == {0: 6000, 2: 7, 3: 1000, 4: 3000}


@pytest.mark.parametrize(("page", "number", "code"), DOCS, ids=[f"{p}-{n}" for p, n, _ in DOCS])
def test_python_of_the_docs(page, number, code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_events(tmp_path / "signal.root", 700, seed=1)
    write_events(tmp_path / "background.root", 1300, seed=2)
    exec(compile(code, f"docs/{page}:{number}", "exec"), {"__name__": "docs", "np": np})
