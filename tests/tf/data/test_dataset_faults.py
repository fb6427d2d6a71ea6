"""root_dataset: faults of arguments, data and workers are errors, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf

from hepdata_adapters import DatasetConfig, Sample
from hepdata_adapters.common.core.errors import ConfigError, SpecsError
from hepdata_adapters.tf import root_dataset
from tests.helpers.tf_datasets import ROOT, events_of, tf_dataset


def children() -> list[psutil.Process]:
    """Worker processes of this one; others may be those of tests before (torch's fork server)."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "hepdata_adapters.common.stream.worker_process" in " ".join(child.cmdline())
    ]


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
