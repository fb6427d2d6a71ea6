"""Uneven ranks and epoch lengths: equal steps for all, every deviation asked for and counted."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.core.errors import ConfigError, DataError, StateError
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch import RootIterableDataset

SIZES = (0, 1, 7, 97)
POLICIES = ("pad", "drop", "wrap")
KINDS = (
    "events delivered",
    "padding rows for equal ranks",
    "events repeated for equal ranks",
    "events dropped for equal ranks",
)
Batches = list[dict[str, torch.Tensor]]
Rows = list[tuple[int, int]]
PADDING = (-1, -1)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> dict[int, Dataset]:
    """Datasets whose validation split holds exactly so many events, over two files."""
    folder = tmp_path_factory.mktemp("uneven")
    found = {}
    for size in SIZES:
        paths = []
        for number, wanted in enumerate((size // 3, size - size // 3)):
            paths.append(str(folder / f"{size}-{number}.root"))
            with uproot.recreate(paths[-1]) as file:
                columns = {"x": np.arange(40.0 + wanted), "part": np.arange(40 + wanted) < wanted}
                file["Events"] = columns
        config = DatasetConfig(
            samples=[Sample(files=paths)],
            features=["x"],
            split={"branch": "part", "values": {"train": False, "validation": True}},
            sampling={"chunk_size": 20},
        )
        found[size] = Dataset.prepare(config, cache=folder)
    return found


def dataset_of(prepared: Dataset, **options) -> RootIterableDataset:
    return RootIterableDataset(prepared, split="validation", **options)


def rows_of(batch: dict[str, torch.Tensor]) -> Rows:
    return [(file, entry) for file, entry in batch["event"].tolist()]


def global_batches(ranks: list[Batches]) -> list[Rows]:
    """The rows of each step, rank after rank."""
    steps = zip(*ranks, strict=True)
    return [[row for batch in step for row in rows_of(batch)] for step in steps]


@pytest.mark.parametrize("uneven", POLICIES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("events", SIZES)
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_all_ranks_make_equal_steps_and_the_ledgers_say_what_it_took(
    datasets, uneven, world_size, events, batch_size
):
    parts = [
        dataset_of(datasets[events], batch_size=batch_size, uneven=uneven, rank=rank,
                   world_size=world_size)
        for rank in range(world_size)
    ]  # fmt: skip
    ranks = [list(dataset) for dataset in parts]

    full, rest = divmod(events, batch_size * world_size)
    each = rest // world_size if uneven == "drop" else -(-rest // world_size)
    shapes = [batch_size] * full + [each] * (each > 0)
    for dataset, batches in zip(parts, ranks, strict=True):
        assert [len(batch["x"]) for batch in batches] == shapes
        assert len(dataset) == len(shapes)

    steps = global_batches(ranks)
    rows = [row for step in steps for row in step]
    real = [row for row in rows if row != PADDING]
    counted = Counter({kind: sum(one.delivery.count(kind) for one in parts) for kind in KINDS})
    missing = each * world_size - rest
    assert counted["padding rows for equal ranks"] == (missing if uneven == "pad" else 0)
    assert counted["events repeated for equal ranks"] == (missing if uneven == "wrap" else 0)
    assert counted["events dropped for equal ranks"] == (-missing if uneven == "drop" else 0)
    dropped = counted["events dropped for equal ranks"]
    assert counted["events delivered"] + dropped == events
    assert len(rows) - len(real) == counted["padding rows for equal ranks"]

    repeated = counted["events repeated for equal ranks"]
    once = real[: len(real) - repeated] if steps and repeated else real
    if uneven == "wrap" and repeated:
        # the last rows are the first of the epoch, again from the start if it is too short
        first = steps[0] if len(steps) > 1 else real[:events]
        assert real[len(once) :] == list(itertools.islice(itertools.cycle(first), repeated))
    assert len(once) == len(set(once)) == events - dropped


@pytest.mark.parametrize("world_size", [2, 5])
def test_padding_rows_have_weight_0_and_no_event_and_come_last(datasets, world_size):
    rows = 0
    for rank in range(world_size):
        for batch in dataset_of(datasets[7], batch_size=1, rank=rank, world_size=world_size):
            padding = batch["event"][:, 0] < 0
            rows += int(padding.sum())
            assert (batch["event"][padding] == -1).all()
            assert (batch["weight"][padding] == 0).all()
            assert (batch["x"][padding] == 0).all()
            assert not batch["mask"][padding].any()
            assert (batch["weight"][~padding] == 1).all()
            assert batch["mask"][~padding].all()
    assert rows == -7 % world_size


@pytest.mark.parametrize("uneven", POLICIES)
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_worker_processes_deliver_what_one_process_does(datasets, uneven, workers):
    for rank in range(2):
        options = {"batch_size": 16, "uneven": uneven, "rank": rank, "world_size": 2}
        alone = dataset_of(datasets[97], **options)
        shared = dataset_of(datasets[97], **options)
        expected = [rows_of(batch) for batch in alone]
        loader = DataLoader(shared, batch_size=None, num_workers=workers)
        assert [rows_of(batch) for batch in loader] == expected
        assert shared.delivery.to_dict() == alone.delivery.to_dict()


@pytest.mark.parametrize("workers", [0, 2])
def test_events_that_are_fewer_than_the_ranks_are_dropped_and_counted_once(datasets, workers):
    """With no step to deliver, no process wrote the ledger: the events were lost silently."""
    dropped = 0
    for rank in range(3):
        dataset = dataset_of(datasets[1], batch_size=4, uneven="drop", rank=rank, world_size=3)
        assert list(DataLoader(dataset, batch_size=None, num_workers=workers)) == []
        dropped += dataset.delivery.count("events dropped for equal ranks")
    assert dropped == 1


def test_single_events_are_shared_equally_too(datasets):
    ranks = [dataset_of(datasets[97], batch_size=None, rank=r, world_size=3) for r in range(3)]
    found = [[tuple(event["event"].tolist()) for event in dataset] for dataset in ranks]
    assert [len(dataset) for dataset in ranks] == [len(events) for events in found] == [33] * 3
    assert Counter(itertools.chain(*found))[PADDING] == 2


def test_an_unknown_policy_is_refused(datasets):
    with pytest.raises(ConfigError, match="uneven is one of pad, drop, wrap, not 'cut'"):
        dataset_of(datasets[7], batch_size=2, uneven="cut")


def epochs(dataset: RootIterableDataset, count: int) -> list[Batches]:
    found = []
    for epoch in range(count):
        dataset.set_epoch(epoch)
        found.append(list(dataset))
    return found


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("events_per_epoch", [1, 32, 97, 200])
def test_epochs_of_so_many_events_follow_each_other_through_whole_orders(
    datasets, shuffle, events_per_epoch
):
    options = {"batch_size": 16, "shuffle": shuffle}
    orders = [rows_of(b) for e in epochs(dataset_of(datasets[97], **options), 3) for b in e]
    dataset = dataset_of(datasets[97], events_per_epoch=events_per_epoch, **options)
    length = -(-events_per_epoch // 16)
    assert len(dataset) == length
    found = epochs(dataset, -(-len(orders) // length))
    assert {len(epoch) for epoch in found} == {length}
    batches = [rows_of(batch) for epoch in found for batch in epoch]
    assert batches[: len(orders)] == orders
    for order in range(3):  # each order holds each event once
        assert len({row for batch in orders[order * 7 : order * 7 + 7] for row in batch}) == 97


@pytest.mark.parametrize("uneven", POLICIES)
def test_ranks_with_so_many_events_an_epoch_stay_in_step(datasets, uneven):
    world_size, count = 3, 6
    parts = [
        dataset_of(datasets[97], batch_size=8, uneven=uneven, rank=rank, world_size=world_size,
                   events_per_epoch=50)
        for rank in range(world_size)
    ]  # fmt: skip
    assert [len(dataset) for dataset in parts] == [3] * world_size
    ranks = [list(itertools.chain(*epochs(dataset, count))) for dataset in parts]
    shapes = {tuple(len(batch["x"]) for batch in batches) for batches in ranks}
    assert len(shapes) == 1
    # 97 events in 5 steps, the last of 1 event, which "drop" leaves out: 4 steps
    steps = global_batches(ranks)
    an_order = 4 if uneven == "drop" else 5
    for first in range(0, len(steps) - an_order, an_order):
        rows = Counter(row for step in steps[first : first + an_order] for row in step)
        del rows[PADDING]
        assert len(rows) == 96 if uneven == "drop" else 97
        assert rows.total() == {"pad": 97, "drop": 96, "wrap": 99}[uneven]


@pytest.mark.parametrize("uneven", POLICIES)
@pytest.mark.parametrize("world_size", [1, 3])
def test_a_stream_that_repeats_gives_the_epochs_one_after_the_other(datasets, uneven, world_size):
    for rank in range(world_size):
        options = {"batch_size": 8, "uneven": uneven, "rank": rank, "world_size": world_size}
        found = epochs(dataset_of(datasets[97], **options), 3)
        expected = [rows_of(batch) for epoch in found for batch in epoch]
        endless = dataset_of(datasets[97], repeat=True, **options)
        first = itertools.islice(endless, len(expected) + 2)
        assert [rows_of(batch) for batch in first][:-2] == expected


def test_a_stream_that_repeats_has_no_length(datasets):
    dataset = dataset_of(datasets[7], batch_size=3, repeat=True)
    with pytest.raises(TypeError, match="has no length"):
        len(dataset)
    with pytest.raises(ConfigError, match="leave out events_per_epoch"):
        dataset_of(datasets[7], batch_size=3, repeat=True, events_per_epoch=5)
    with pytest.raises(ConfigError, match="events_per_epoch is at least 1"):
        dataset_of(datasets[7], batch_size=3, events_per_epoch=0)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_dataloader_repeat_in_the_same_order_and_can_be_stopped(datasets, workers):
    dataset = dataset_of(datasets[97], batch_size=16, repeat=True)
    expected = [rows_of(batch) for batch in itertools.islice(dataset, 17)]
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    found = [rows_of(batch) for batch in itertools.islice(loader, 17)]
    assert found == expected
    assert len({row for batch in found[:7] for row in batch}) == 97


@pytest.mark.parametrize(
    ("events", "options"),
    [
        (0, {}),
        (1, {"uneven": "drop", "rank": 1, "world_size": 3}),
    ],
)
@pytest.mark.parametrize("endless", [{"repeat": True}, {"events_per_epoch": 9}])
def test_nothing_cannot_be_repeated(datasets, events, options, endless):
    dataset = dataset_of(datasets[events], batch_size=4, **options, **endless)
    with pytest.raises(DataError, match="there is no batch to repeat"):
        next(iter(dataset))


SCRIPT = """
import json, sys
import lightning
from hepdata_adapters.torch import EventModule, FeedForward, RootDataModule

class Recorder(lightning.Callback):
    def __init__(self):
        self.events, self.steps = [], 0

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.events.append(batch["event"].tolist())
        self.steps += 1

if __name__ == "__main__":
    folder, *files = sys.argv[1:]
    found = {}
    for uneven in ("drop", "wrap", "pad"):
        data = RootDataModule({path: n for n, path in enumerate(files)}, batch_size=4,
                              uneven=uneven, features=["x"], progress=False,
                              split={"branch": "part", "values": {"train": [0], "validation": [1]}})
        recorder = Recorder()
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", devices=3, strategy="ddp",
                                    callbacks=[recorder], logger=False,
                                    enable_checkpointing=False, num_sanity_val_steps=0,
                                    enable_progress_bar=False, enable_model_summary=False)
        trainer.fit(EventModule(FeedForward(data.num_features), "binary"), data)
        found[uneven] = {"batches": recorder.events, "steps": recorder.steps,
                         "length": trainer.num_training_batches,
                         "loss": float(trainer.callback_metrics["validation_loss"]),
                         "ledger": data.dataset("train").delivery.to_dict()}
    with open(f"{folder}/rank{trainer.global_rank}.json", "w") as file:
        json.dump(found, file)
"""


def test_three_processes_train_in_step_by_every_policy(tmp_path: Path):
    """31 training events: 2 whole steps of 12, then 7 for 3 ranks; 4 for validation."""
    files = []
    for number, (train, validation) in enumerate(((20, 3), (11, 1))):
        files.append(tmp_path / f"{number}.root")
        with uproot.recreate(files[-1]) as file:
            size = train + validation
            part = (np.arange(size) >= train).astype(np.int32)
            file["Events"] = {"x": np.arange(size, dtype=np.float32), "part": part}
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, tmp_path, *files], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(3)]
    everyone = Counter([(0, n) for n in range(20)] + [(1, n) for n in range(11)])
    for uneven, last in (("drop", 2), ("wrap", 3), ("pad", 3)):
        found = [rank[uneven] for rank in ranks]
        assert [one["length"] for one in found] == [3] * 3
        assert [one["steps"] for one in found] == [6] * 3
        assert len({one["loss"] for one in found}) == 1, "metrics are not synchronised"
        for epoch in range(2):
            batches = [one["batches"][3 * epoch : 3 * epoch + 3] for one in found]
            assert [[len(rows) for rows in rank] for rank in batches] == [[4, 4, last]] * 3
            seen = Counter(tuple(row) for rank in batches for rows in rank for row in rows)
            extra, lost = seen - everyone, everyone - seen
            assert (extra.total(), lost.total()) == {
                "drop": (0, 1), "wrap": (2, 0), "pad": (2, 0),
            }[uneven]  # fmt: skip
            assert (PADDING in seen) == (uneven == "pad")
        total = Counter()
        for one in found:
            total.update({kind: sum(places.values()) for kind, places in one["ledger"].items()})
        counted = {
            "drop": {"events delivered": 60, "events dropped for equal ranks": 2},
            "wrap": {"events delivered": 62, "events repeated for equal ranks": 4},
            "pad": {"events delivered": 62, "padding rows for equal ranks": 4},
        }[uneven]
        assert total == counted


LAST = "events of a short last batch, left out"


@pytest.mark.parametrize("uneven", POLICIES)
@pytest.mark.parametrize(("world_size", "batch_size"), [(1, 16), (1, 32), (2, 16), (3, 5)])
def test_drop_last_leaves_out_a_short_last_batch_counts_it_and_says_the_length(
    datasets, uneven, world_size, batch_size
):
    kept = 97 // (world_size * batch_size) * world_size * batch_size
    parts = [
        dataset_of(datasets[97], batch_size=batch_size, uneven=uneven, rank=rank,
                   world_size=world_size, drop_last=True)
        for rank in range(world_size)
    ]  # fmt: skip
    ranks = [list(part) for part in parts]
    assert {len(batch["x"]) for rank in ranks for batch in rank} == {batch_size}
    assert [len(part) for part in parts] == [len(rank) for rank in ranks]
    rows = [row for step in global_batches(ranks) for row in step]
    assert len(set(rows)) == len(rows) == kept
    total = Counter()
    for part in parts:
        total.update({kind: part.delivery.count(kind) for kind in (*KINDS, LAST)})
    assert total == {"events delivered": kept, LAST: 97 - kept} | dict.fromkeys(KINDS[1:], 0)
    whole = [
        list(dataset_of(datasets[97], batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert global_batches(ranks) == global_batches(whole)[: len(ranks[0])]


def test_drop_last_leaves_nothing_out_where_all_batches_are_full(datasets):
    part = dataset_of(datasets[7], batch_size=7, drop_last=True)
    assert len(part) == len(list(part)) == 1
    assert part.delivery.count(LAST) == 0


def test_a_position_with_drop_last_is_another_than_without(datasets):
    state = dataset_of(datasets[97], batch_size=16, drop_last=True).loader().state_dict()
    assert dataset_of(datasets[97], batch_size=16, drop_last=True).resumed_epoch(state).start == 0
    with pytest.raises(StateError, match="other sampling"):
        dataset_of(datasets[97], batch_size=16).resumed_epoch(state)


def test_drop_last_of_too_few_events_or_of_single_ones_is_refused(datasets):
    with pytest.raises(ConfigError, match="'validation' holds 7, fewer than a batch of 8; lower"):
        dataset_of(datasets[7], batch_size=8, drop_last=True)
    with pytest.raises(ConfigError, match=r"give batch_size too, or .*drop_last=True\)"):
        dataset_of(datasets[7], drop_last=True)
    assert len(dataset_of(datasets[0], batch_size=8, drop_last=True)) == 0
