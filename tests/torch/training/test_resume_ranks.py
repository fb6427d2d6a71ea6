"""A training on three real DDP processes, stopped in the middle of an epoch, goes on with two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hepdata_adapters.torch import RootIterableDataset
from tests.helpers.samples import write_events

SCRIPT = """
import json, sys
import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from hepdata_adapters.torch import EventModule, FeedForward, RootDataModule

class Recorder(lightning.Callback):
    def __init__(self):
        self.batches = []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.batches.append(batch["event"].tolist())

if __name__ == "__main__":
    folder, run, ranks, batch_size, steps, checkpoint, *files = sys.argv[1:]
    # 3 canonical ranks do not divide into 2; 6 do into both
    data = RootDataModule({path: n for n, path in enumerate(files)}, batch_size=int(batch_size),
                          canonical_ranks=6, features=["MET"], progress=False, num_workers=1)
    recorder = Recorder()
    saving = ModelCheckpoint(folder, "middle", save_top_k=-1, every_n_train_steps=5,
                             enable_version_counter=False)
    trainer = lightning.Trainer(max_epochs=1, max_steps=int(steps), accelerator="cpu",
                                devices=int(ranks), strategy="ddp", callbacks=[recorder, saving],
                                logger=False, num_sanity_val_steps=0, limit_val_batches=0,
                                enable_progress_bar=False, enable_model_summary=False)
    model = EventModule(FeedForward(data.num_features), "binary")
    trainer.fit(model, data, ckpt_path=None if checkpoint == "none" else checkpoint)
    with open(f"{folder}/{run}-{trainer.global_rank}.json", "w") as file:
        json.dump(recorder.batches, file)
"""


def train(
    folder: Path, run: str, ranks: int, steps: int, checkpoint: Path | str, files: list[Path]
) -> list[list[tuple[int, int]]]:
    """The events (file, entry) of each global step, without padding, in order."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    arguments = [folder, run, ranks, 60 // ranks, steps, checkpoint, *files]
    done = subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found: list[list[Any]] = [
        json.loads((folder / f"{run}-{rank}.json").read_text()) for rank in range(ranks)
    ]
    assert len({len(batches) for batches in found}) == 1
    return [
        sorted((file, entry) for events in step for file, entry in events if file >= 0)
        for step in zip(*found, strict=True)
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    sizes = (700, 300)
    return [write_events(folder / f"{n}.root", size, n) for n, size in enumerate(sizes)]


def test_three_processes_stop_and_two_go_on_at_the_exact_event(
    tmp_path: Path, files: list[Path]
) -> None:
    dataset = RootIterableDataset(
        {str(path): n for n, path in enumerate(files)}, batch_size=60, split="train",
        canonical_ranks=6, features=["MET"], progress=False,
    )  # fmt: skip
    whole = [sorted(map(tuple, batch["event"].tolist())) for batch in dataset]
    before = train(tmp_path, "before", 3, 5, "none", files)
    after = train(tmp_path, "after", 2, -1, tmp_path / "middle.ckpt", files)
    assert before == whole[:5]
    assert after == whole[5:]
    events = [event for step in [*before, *after] for event in step]
    assert len(events) == len(set(events)) > 600
