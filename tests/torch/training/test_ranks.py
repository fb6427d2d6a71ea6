"""Two real ranks (gloo) through Lightning: equal steps, each event once, one set of metrics."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from hepdata_adapters.torch import EventModule
from tests.helpers.samples import write_events

SCRIPT = """
import json, sys, warnings
import lightning, torch
from hepdata_adapters.torch import EventModule, FeedForward, RootDataModule

class Recorder(lightning.Callback):
    events, steps = [], 0

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.events += batch["event"].tolist()
        self.steps += 1

    def on_fit_end(self, trainer, module):
        found = {"events": self.events, "steps": self.steps, "length": trainer.num_training_batches,
                 "loss": float(trainer.callback_metrics["validation_loss"])}
        with open(f"{folder}/rank{trainer.global_rank}.json", "w") as file:
            json.dump(found, file)

if __name__ == "__main__":
    folder, *files = sys.argv[1:]
    data = RootDataModule({path: n for n, path in enumerate(files)}, batch_size=32, num_workers=1,
                          features=["MET", "Jet_pt"], progress=False)
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=2, strategy="ddp",
                                callbacks=[Recorder()], logger=False,
                                enable_checkpointing=False, num_sanity_val_steps=0,
                                enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(EventModule(FeedForward(data.num_features), "binary"), data)
else:
    folder = sys.argv[1]
"""


def test_two_ranks_share_the_events_and_make_equal_steps(tmp_path: Path):
    files = [write_events(tmp_path / f"{n}.root", size, n) for n, size in enumerate((501, 260))]
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, tmp_path, *files], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0]["steps"] == ranks[1]["steps"] == ranks[0]["length"] == ranks[1]["length"]
    assert len(ranks[0]["events"]) == len(ranks[1]["events"])
    assert ranks[0]["loss"] == ranks[1]["loss"], "metrics are not synchronised"
    seen = Counter(tuple(event) for rank in ranks for event in rank["events"] if event != [-1, -1])
    assert set(seen.values()) == {1}
    assert 380 < len(seen) < 590  # 64 % of 761, by a hash of a random UUID


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_batch_of_padding_alone_does_not_stop_the_metrics(task):
    """A last batch of one event left rank 1 without any; its metrics then raised (1 in 64)."""
    classes = 3 if task == "multiclass" else 1
    module = EventModule(torch.nn.Linear(2, classes), task, num_classes=3)
    module.log = module.log_dict = lambda *_, **__: None
    real = torch.tensor([0, 2, 1, 0]) if task == "multiclass" else torch.tensor([0, 1, 1, 0])
    label = real.float() if task == "regression" else real
    events = torch.zeros(4, 2, dtype=torch.int64)
    batch = {"x": torch.randn(4, 2), "label": label, "weight": torch.ones(4), "event": events}
    padding = {name: torch.zeros_like(values) for name, values in batch.items()}
    padding["event"] -= 1
    module.validation_step(batch, 0)
    alone = {name: value.clone() for name, value in module.validation_metrics.compute().items()}
    module.validation_step(padding, 1)
    assert module.validation_metrics.compute() == alone
