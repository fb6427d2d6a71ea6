"""root_dataset: the batches of RootIterableDataset, as a tf.data.Dataset."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import awkward as ak
import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.core.errors import ConfigError, SpecsError
from hepdata_adapters.tf import RootSource, root_dataset
from hepdata_adapters.torch import RootIterableDataset
from tests.conftest import EXAMPLES
from tests.samples import write_events

ROOT = Path(__file__).resolve().parents[1]
FEATURES = ["MET", "passes", "Jet_pt", "Jet_id"]
PAD = 4


def options_of(**options) -> dict[str, object]:
    return {
        "features": FEATURES,
        "defaults": {"scaling": "none", "length": PAD},
        "progress": False,
        "sampling": {"chunk_size": 70},
    } | options


def labels_of(files: list[Path]) -> dict[str, int]:
    return {str(path): number % 2 for number, path in enumerate(files)}


def tf_dataset(files: list[Path], **options):
    return root_dataset(labels_of(files), **options_of(**options))


def events_of(dataset) -> list[list[int]]:
    return [event for batch in dataset for event in batch["event"].numpy().tolist()]


def children() -> list[psutil.Process]:
    """Worker processes of this one; others may be those of tests before (torch's fork server)."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "hepdata_adapters.common.stream.worker_process" in " ".join(child.cmdline())
    ]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, tuple[list[Path], object]]:
    """Files of four kinds, and the features that all files of a dataset have."""
    folder = tmp_path_factory.mktemp("kinds")
    tree = write_events(folder / "tree.root", 801, 1)
    ntuple = write_events(folder / "ntuple.root", 500, 2, rntuple=True)
    random = np.random.default_rng(3)
    flat, counted = folder / "flat.root", folder / "counted.root"
    with uproot.recreate(flat) as file:
        columns = {"MET": random.exponential(30, 333).astype(np.float32), "n": np.arange(333)}
        file.mktree("Events", {name: values.dtype for name, values in columns.items()})
        file["Events"].extend(columns)
    with uproot.recreate(counted) as file:  # as NanoAOD: several branches share a counter
        counts = random.poisson(2, 420)
        jets = ak.zip({
            "pt": ak.unflatten(random.exponential(40, counts.sum()).astype(np.float32), counts),
            "eta": ak.unflatten(random.normal(size=counts.sum()).astype(np.float32), counts),
        })  # fmt: skip
        types = {"MET": "float32", "Jet": jets.type.content}
        file.mktree("Events", types)
        met = random.exponential(30, 420).astype(np.float32)
        file["Events"].extend({"MET": met, "Jet": jets})
    return {
        "mixed": ([tree, ntuple, flat, counted], ["MET"]),
        "vectors": ([tree], FEATURES),
        "ntuple": ([ntuple], FEATURES),
        "flat": ([flat], "*"),
        "counted": ([counted], ["Jet_pt", "MET", "Jet_eta"]),
        "physics": ([Path(f"{EXAMPLES}/{name}_0.root:Events") for name in ("tth", "qcd")], "*"),
    }


def check_equal(batch: dict[str, tf.Tensor], expected: dict[str, object]) -> None:
    assert batch.keys() == expected.keys()
    for name, values in batch.items():
        found, wanted = values.numpy(), expected[name].numpy()
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        assert found.tobytes() == wanted.tobytes(), name


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["mixed", "vectors", "ntuple", "flat", "counted", "physics"])
def test_batches_are_those_of_torch_bit_by_bit(kinds, kind, workers):
    files, features = kinds[kind]
    options = options_of(batch_size=32, seed=7, features=features)
    theirs = RootIterableDataset(labels_of(files), **options)
    loader = DataLoader(
        theirs, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    ours = root_dataset(labels_of(files), num_workers=workers, **options)
    orders = []
    for epoch in range(2):
        theirs.set_epoch(epoch)
        expected, found = list(loader), list(ours)
        assert len(found) == len(ours) == len(theirs)
        for batch, wanted in zip(found, expected, strict=True):
            check_equal(batch, wanted)
        orders.append(np.concatenate([batch["event"].numpy() for batch in found]).tolist())
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert ours.source.ledger.to_dict() == theirs.ledger.to_dict()


@pytest.mark.parametrize(("workers", "shuffle"), [(0, True), (2, True), (2, False)])
def test_batches_of_each_rank_are_those_of_torch(three_files, workers, shuffle):
    for rank in range(2):
        options = options_of(
            batch_size=100, shuffle=shuffle, split="train", rank=rank, world_size=2, epoch=3
        )
        theirs = RootIterableDataset(labels_of(three_files), **options)
        ours = root_dataset(labels_of(three_files), num_workers=workers, **options)
        for batch, wanted in zip(ours, theirs, strict=True):
            check_equal(batch, wanted)


def test_batches_do_not_change_after_the_next_is_read(three_files):
    """Tensors that shared the memory of the workers would."""
    dataset = tf_dataset(three_files, batch_size=50, num_workers=1, shuffle=False)
    batches = list(dataset)
    events = [event for batch in batches for event in batch["event"].numpy().tolist()]
    assert events == sorted(events)
    assert len(events) == 4013


def test_signature_and_cardinality_are_known(three_files):
    dataset = tf_dataset(three_files, batch_size=100)
    assert dataset.cardinality() == len(dataset) == len(dataset.source) == 41
    assert dataset.element_spec == {
        "x": tf.TensorSpec((None, 10), tf.float32),
        "mask": tf.TensorSpec((None, 10), tf.bool),
        "lengths": tf.TensorSpec((None, 2), tf.int32),
        "label": tf.TensorSpec((None,), tf.float32),
        "weight": tf.TensorSpec((None,), tf.float64),
        "event": tf.TensorSpec((None, 2), tf.int64),
    }
    assert "label" not in root_dataset(str(three_files[0]), progress=False).element_spec


def test_tensorflow_neither_shards_nor_tunes(three_files):
    options = tf_dataset(three_files).options()
    off = tf.data.experimental.AutoShardPolicy.OFF
    assert options.experimental_distribute.auto_shard_policy == off
    assert options.autotune.enabled is False


def test_a_tuple_is_inputs_label_weight(three_files):
    batch = next(iter(tf_dataset(three_files, batch_size=64)))
    x, label, weight = next(iter(tf_dataset(three_files, batch_size=64, as_="tuple")))
    inputs, _, _ = next(iter(tf_dataset(
        three_files, batch_size=64, as_="tuple", inputs=["mask", "ragged"], ragged=["Jet_pt"]
    )))  # fmt: skip
    check_equal({"x": x, "label": label, "weight": weight},
                {"x": batch["x"], "label": batch["label"], "weight": batch["weight"]})  # fmt: skip
    check_equal({"mask": inputs["mask"]}, {"mask": batch["mask"]})
    assert inputs["ragged"]["Jet_pt"].row_lengths().numpy().tolist() == (
        batch["lengths"][:, 0].numpy().tolist()
    )


def test_ragged_tensors_hold_the_values_of_the_file(three_files):
    path = three_files[1]
    tree = uproot.open(path)["Events"]
    options = {"batch_size": 4, "shuffle": False, "defaults": {"scaling": "none", "length": "max"}}
    apart = tf_dataset([path], ragged=["Jet_id", "Jet_pt"], **options)
    spec = tf.RaggedTensorSpec((None, None), tf.float32, ragged_rank=1)
    assert apart.element_spec["ragged"] == {"Jet_id": spec, "Jet_pt": spec}
    for name in ("Jet_id", "Jet_pt"):
        found = [row for batch in apart for row in batch["ragged"][name].to_list()]
        assert found == tree[name].array().to_list()
    together = tf_dataset([path], ragged={"Jet": ["Jet_pt", "Jet_id"]}, **options)
    assert together.element_spec["ragged"]["Jet"].shape.as_list() == [None, None, 2]
    found = [row for batch in together for row in batch["ragged"]["Jet"].to_list()]
    pairs = zip(tree["Jet_pt"].array().to_list(), tree["Jet_id"].array().to_list(), strict=True)
    assert found == [[list(pair) for pair in zip(*event, strict=True)] for event in pairs]


def test_ragged_tensors_are_cut_at_the_pad_length(three_files):
    batch = next(iter(tf_dataset(three_files, batch_size=4013, ragged=["Jet_pt"])))
    lengths = batch["ragged"]["Jet_pt"].row_lengths().numpy()
    assert lengths.max() == PAD
    np.testing.assert_array_equal(lengths, batch["lengths"][:, 0].numpy())


def test_a_ragged_group_of_unequal_lengths_is_an_error(tmp_path):
    path = tmp_path / "uneven.root"
    with uproot.recreate(path) as file:
        file["Events"] = {
            "a": ak.Array([[1.0, 2.0], [3.0]] * 20), "b": ak.Array([[1.0], [3.0]] * 20)
        }  # fmt: skip
    options = {"progress": False, "features": ["a", "b"], "batch_size": 40}
    dataset = root_dataset(str(path), ragged={"ab": ["a", "b"]}, defaults={"length": 2}, **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match="a and b have different lengths"):
        list(dataset)
    with pytest.raises(ConfigError, match=r"'ab': a keeps up to 2 values, b up to 1; give both"):
        root_dataset(str(path), ragged={"ab": ["a", "b"]}, defaults={"length": "max"}, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"as_": "list"}, "as_ is 'dict' or 'tuple', not 'list'"),
        ({"inputs": "mask"}, "inputs is for as_='tuple'"),
        ({"as_": "tuple", "inputs": "maks"}, "inputs names 'maks', which is none; did you mean"),
        ({"as_": "tuple", "inputs": "label"}, "inputs names 'label', which is none"),
        ({"as_": "tuple", "inputs": []}, "inputs names no tensor"),
        ({"as_": "tuple", "inputs": "ragged"}, "say which branches with ragged="),
        ({"as_": "tuple", "ragged": ["Jet_pt"]}, "inputs does not name them"),
        ({"ragged": ["MET"]}, "'MET', which is a flat branch"),
        ({"ragged": ["Jet_Pt"]}, "no jagged feature; did you mean 'Jet_pt'"),
        ({"ragged": "Jet_pt"}, "ragged is a list of branches or a dict of such lists"),
        ({"ragged": {"Jet": "Jet_pt"}}, "group 'Jet' is a list of branches"),
        ({"ragged": {"Jet": ["Jet_pt", "MET"]}}, "'MET', which is a flat branch"),
        ({"cast": {"wieght": "float32"}}, "which no batch has; did you mean 'weight'"),
        ({"cast": {"weight": "int8"}}, "the dtype is float32 or float64, not 'int8'"),
        ({"cast": {"weight": "flaot32"}}, "the dtype is float32 or float64, not 'flaot32'"),
        ({"cast": {"event": "float32"}}, r"exact for whole numbers up to 16,777,216, and 'event'"),
        ({"batch_size": None}, "batch_size is needed"),
        ({"batch_size": 0}, "batch_size is a whole number from 1"),
        ({"num_workers": -1}, "num_workers is a whole number from 0"),
        ({"split": "valid"}, "split is one of"),
        ({"features": ["METT"]}, "METT"),
        ({"feature": ["MET"]}, "feature"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not among 2"),
    ],
)
def test_bad_input(three_files, arguments, message):
    with pytest.raises(Exception, match=message) as caught:
        tf_dataset(three_files, **arguments)
    assert type(caught.value).__module__ == "hepdata_adapters.common.core.errors"


def test_tuples_need_labels(three_files):
    with pytest.raises(ConfigError, match="the samples have no label"):
        root_dataset(str(three_files[0]), as_="tuple", progress=False)


def test_specs_of_other_data_are_refused(three_files):
    other = tf_dataset(three_files[:1]).source.specs
    with pytest.raises(SpecsError, match="belong to other data"):
        tf_dataset(three_files, specs=other)


def test_casts_are_exact_or_refused(three_files):
    casts = {"weight": "float32", "label": tf.float32, "mask": "float32"}
    dataset = tf_dataset(three_files, batch_size=500, cast=casts)
    plain = tf_dataset(three_files, batch_size=500)
    for found, expected in zip(dataset, plain, strict=True):
        for name in casts:
            assert found[name].dtype == tf.float32
            np.testing.assert_array_equal(found[name].numpy(), expected[name].numpy())
    # run_number starts at 2^53
    sample = Sample(files=str(three_files[0]), label="run_number")
    config = DatasetConfig(samples=[sample], task="regression", features=["MET"])
    with pytest.raises(ConfigError, match=r"'label' can range from 9,007,199,254,74"):
        root_dataset(config, cast={"label": "float32"}, progress=False)


def test_a_cast_is_checked_in_events_that_the_specs_have_not_seen(make_file):
    values = np.where(np.arange(400) == 399, 1e60, 1.0)
    path = make_file(MET=np.ones(400, np.float32), w=values)
    config = DatasetConfig(samples=[Sample(files=str(path), weight="w")], features=["MET"])
    dataset = root_dataset(config, cast={"weight": "float32"}, progress=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="'weight': too large for float32"):
        list(dataset)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_the_data_names_its_class_and_place(make_file, workers):
    values = np.ones(100, np.float32)
    values[77] = np.nan
    dataset = root_dataset(
        str(make_file(MET=values)), features=["MET"], progress=False, num_workers=workers
    )
    with pytest.raises(tf.errors.UnknownError, match=r"InvalidValueError: .*entry 77\]"):
        list(dataset)
    assert type(dataset.source.error).__name__ == "InvalidValueError"
    assert not children()


def test_a_killed_worker_is_an_error_and_not_a_hang(three_files):
    dataset = tf_dataset(three_files, batch_size=8, num_workers=2)
    iterator = iter(dataset)
    next(iterator)
    os.kill(children()[0].pid, signal.SIGKILL)
    with pytest.raises(
        tf.errors.UnknownError,
        match=r"WorkerError: .* was killed by SIGKILL.*it last read entries \d+ to \d+ of tree",
    ):
        list(iterator)
    assert not children()


def test_stopping_early_leaves_nothing_behind(three_files):
    dataset = tf_dataset(three_files, batch_size=16, num_workers=2)
    for _ in dataset.take(3):
        pass
    gc.collect()
    assert not children()
    # a whole pass keeps its workers for the next, as long as the dataset lives
    assert len(events_of(dataset)) == 4013
    workers = children()
    assert len(workers) == 2
    assert len(events_of(dataset)) == 4013
    assert children() == workers
    derived = dataset.map(lambda batch: batch["event"])
    del dataset
    gc.collect()
    assert sum(len(event) for event in derived) == 4013
    assert children() == workers
    del derived
    gc.collect()
    assert not children()
    assert "/memfd:hepdata-batches" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_two_iterations_at_once_are_both_right(three_files, workers):
    dataset = tf_dataset(three_files, batch_size=64, num_workers=workers)
    pairs = list(zip(dataset, dataset, strict=True))
    orders = []
    for batches in zip(*pairs, strict=True):
        orders.append([e for batch in batches for e in batch["event"].numpy().tolist()])
        assert len(set(map(tuple, orders[-1]))) == 4013
    assert orders[0] != orders[1]


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


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


# no `if __name__ == "__main__"`, and the process ends in the middle of a pass: TensorFlow alone
# would then wait for its prefetching thread for ever
SCRIPT = """
import sys
from hepdata_adapters.tf import root_dataset
dataset = root_dataset(sys.argv[1], batch_size=8, num_workers=int(sys.argv[2]), progress=False)
iterator = iter(dataset.prefetch(1000))
next(iterator)
print("torch" in sys.modules)
"""


def test_a_script_without_guard_may_end_in_the_middle_of_a_pass(three_files):
    """With workers; without, it may still hang on a busy machine: see `RootSource`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, three_files[0], "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n", "torch is imported"


@pytest.mark.parametrize(
    "options",
    [
        {"uneven": "drop", "rank": 1, "world_size": 3, "batch_size": 7},
        {"uneven": "wrap", "rank": 2, "world_size": 3, "batch_size": 7},
        {"events_per_epoch": 100, "batch_size": 30, "epoch": 2},
        {"drop_last": True, "batch_size": 40},
        {"sampling": {"balance": "over"}, "split": "train", "batch_size": 40},
    ],
)
def test_every_kind_of_epoch_is_that_of_torch(tmp_path, options):
    samples = {str(write_events(tmp_path / f"{n}.root", 150 + n, n)): n for n in (0, 1)}
    options = {"features": ["MET", "Jet_pt"], "progress": False} | options
    theirs = [
        {name: values.numpy() for name, values in batch.items()}
        for batch in RootIterableDataset(samples, **options)
    ]
    dataset = root_dataset(samples, **options)
    ours = list(dataset.as_numpy_iterator())
    assert len(dataset) == len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_a_stream_that_repeats_has_no_end(tmp_path):
    path = str(write_events(tmp_path / "a.root", 100))
    dataset = root_dataset(path, features=["MET"], batch_size=40, repeat=True, progress=False)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    events = [len(batch["x"]) for batch in dataset.take(7)]
    assert events == [40, 40, 20, 40, 40, 20, 40]
