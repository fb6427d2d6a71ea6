"""root_dataset: the batches of RootIterableDataset, as a tf.data.Dataset."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import tensorflow as tf
import uproot
from torch.utils.data import DataLoader

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.tf import root_dataset
from hepdata_adapters.torch import RootIterableDataset
from tests.conftest import EXAMPLES
from tests.helpers.samples import write_events
from tests.helpers.tf_datasets import FEATURES, PAD, labels_of, options_of, tf_dataset


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
