"""root_dataset: epochs, ranks, and training in one process and two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.tf import RootSource, root_dataset
from tests.helpers.samples import write_events
from tests.helpers.servers import free_port
from tests.helpers.tf_datasets import PAD, ROOT, events_of, labels_of, options_of, tf_dataset


def test_each_pass_takes_the_next_epoch_and_set_epoch_goes_back(three_files):
    dataset = tf_dataset(three_files, batch_size=256, epoch=5)
    assert dataset.source.epoch == 5
    orders = [events_of(dataset) for _ in range(2)]
    assert dataset.source.epoch == 7
    assert orders[0] != orders[1]
    dataset.source.set_epoch(5)
    assert events_of(dataset) == orders[0]
    still = tf_dataset(three_files, batch_size=256, shuffle=False)
    assert events_of(still) == events_of(still) == sorted(orders[0])


def test_a_source_gives_several_datasets(three_files):
    source = RootSource(labels_of(three_files), **options_of(batch_size=256, shuffle=False))
    events = events_of(source.dataset())
    x, *_ = zip(*source.dataset("tuple"), strict=True)
    assert sum(map(len, x)) == len(events) == 4013
    assert source.ledger.count("events delivered") == 2 * 4013


def test_ranks_come_from_the_input_context(three_files):
    context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1)
    assert tf_dataset(three_files, input_context=context).source.ranks == (1, 2)
    with pytest.raises(ConfigError, match="give it or them, not both"):
        tf_dataset(three_files, input_context=context, rank=0)


def test_ranks_default_to_the_environment(three_files, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tf_dataset(three_files).source.ranks == (1, 2)


def test_fit_takes_training_and_validation_and_reshuffles(three_files):
    datasets = {
        split: tf_dataset(
            three_files, batch_size=128, split=split, as_="tuple", inputs=["x", "event"],
            num_workers=1, defaults={"scaling": "standard", "length": PAD},
        )
        for split in ("train", "validation")
    }  # fmt: skip
    seen: list[list[list[int]]] = []

    class Recorder(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1, activation="sigmoid")

        def call(self, inputs):
            return self.dense(inputs["x"])

        def train_step(self, data):
            seen.append(data[0]["event"].numpy().tolist())
            return super().train_step(data)

    model = Recorder()
    model.compile("adam", "binary_crossentropy", run_eagerly=True)
    history = model.fit(
        datasets["train"],
        validation_data=datasets["validation"],
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    assert set(history.history) == {"loss", "val_loss"}
    assert np.isfinite(history.history["val_loss"]).all()
    steps = len(datasets["train"])
    assert len(seen) == 2 * steps
    first, second = (
        [tuple(event) for batch in part for event in batch] for part in (seen[:steps], seen[steps:])
    )
    assert first != second
    assert sorted(first) == sorted(second)


DISTRIBUTED = """
import json, sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
from hepdata_adapters.tf import root_dataset
output, *files = sys.argv[1:]
samples = {path: number for number, path in enumerate(files)}
options = dict(batch_size=32, features=["MET", "Jet_pt"], defaults={"length": 8},
               progress=False, num_workers=1)

def distributed(**more):
    return strategy.distribute_datasets_from_function(
        lambda context: root_dataset(samples, input_context=context, **options, **more))

events, padding, steps = [], 0.0, 0
for batch in distributed():
    batch = {name: strategy.experimental_local_results(part)[0] for name, part in batch.items()}
    events += batch["event"].numpy().tolist()
    padding += float(tf.reduce_sum(tf.abs(batch["weight"][batch["event"][:, 0] < 0])))
    steps += 1

with strategy.scope():
    slope = tf.Variable(tf.zeros((9, 1)), aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

def step(x, label, weight):
    with tf.GradientTape() as tape:
        logits = tf.matmul(x, slope)[:, 0]
        losses = tf.nn.sigmoid_cross_entropy_with_logits(label, logits)
        loss = tf.reduce_sum(losses * weight)
    total = tf.distribute.get_replica_context().all_reduce("SUM", tape.gradient(loss, slope))
    slope.assign_sub(1e-3 * total)

casts = {"label": "float32", "weight": "float32"}
train = distributed(as_="tuple", split="train", cast=casts)
for epoch in range(2):
    for batch in train:
        strategy.run(step, args=batch)
found = {"events": events, "padding": padding, "steps": steps, "slope": slope.numpy().tolist()}
with open(output, "w") as file:
    json.dump(found, file)
"""


def test_two_workers_of_a_strategy_share_the_events_and_make_equal_steps(tmp_path):
    files = [write_events(tmp_path / f"{n}.root", size, n) for n, size in enumerate((501, 260))]
    ports = [free_port() for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    processes = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {"TF_CONFIG": json.dumps(task), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", DISTRIBUTED, tmp_path / f"{index}.json", *files]
        processes.append(subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
    try:
        for process in processes:
            said, _ = process.communicate(timeout=240)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    ranks = [json.loads((tmp_path / f"{index}.json").read_text()) for index in range(2)]
    assert ranks[0]["steps"] == ranks[1]["steps"] == -(-761 // 64)
    assert len(ranks[0]["events"]) == len(ranks[1]["events"])
    seen = Counter(tuple(event) for rank in ranks for event in rank["events"] if event != [-1, -1])
    assert len(seen) == 761
    assert set(seen.values()) == {1}
    assert ranks[0]["padding"] == ranks[1]["padding"] == 0
    assert ranks[0]["slope"] == ranks[1]["slope"], "the replicas drifted apart"
    assert np.any(ranks[0]["slope"])


def test_a_stream_that_repeats_has_no_end(tmp_path):
    path = str(write_events(tmp_path / "a.root", 100))
    dataset = root_dataset(path, features=["MET"], batch_size=40, repeat=True, progress=False)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    events = [len(batch["x"]) for batch in dataset.take(7)]
    assert events == [40, 40, 20, 40, 40, 20, 40]
