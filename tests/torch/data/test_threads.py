"""Reading by threads: the same batches, workers forked in the middle, memory of their own."""

from __future__ import annotations

import os
import pickle
import threading
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hepdata_adapters.common.core.reused_memory import ALIGNMENT
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.prepare import prepare
from hepdata_adapters.torch import RootIterableDataset
from hepdata_adapters.torch.data import shared_batch
from hepdata_adapters.torch.data.convert import WholeBatch
from hepdata_adapters.torch.data.shared_batch import SharedBatch
from tests.helpers.samples import write_events


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("threads")
    sizes = (900, 40, 333)
    return {
        str(write_events(folder / f"{n}.root", size, n, step=64)): n % 2
        for n, size in enumerate(sizes)
    }


def prepared(files: dict[str, int], threads: int | None = None, **options: Any) -> Dataset:
    reading = {} if threads is None else {"threads": threads}
    sampling = {"chunk_size": 100}
    given = {"features": ["MET", "Jet_pt"], "sampling": sampling, "reading": reading} | options
    return prepare(files, given, progress=False)


def batches_of(loader: Any) -> list[dict[str, np.ndarray]]:
    return [{name: values.numpy().copy() for name, values in batch.items()} for batch in loader]


def check_equal(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> None:
    assert len(one) == len(other) > 10
    for mine, theirs in zip(one, other, strict=True):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            assert values.dtype == theirs[name].dtype
            assert values.tobytes() == theirs[name].tobytes(), name


def dataset_of(data: Dataset, size: int = 32) -> RootIterableDataset:
    return RootIterableDataset(data, batch_size=size, split="train", progress=False)


@pytest.mark.parametrize("inputs", [{}, {"jets": {"kind": "set", "features": ["Jet_pt"]}}])
def test_any_number_of_threads_delivers_the_same(files, inputs):
    expected = batches_of(dataset_of(prepared(files, 1, inputs=inputs)))
    for threads in (2, 5, None):
        check_equal(batches_of(dataset_of(prepared(files, threads, inputs=inputs))), expected)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_that_are_forked_while_threads_read(files):
    """A child has none of the threads that hold locks of the parent."""
    data = prepared(files, 2)
    expected = batches_of(dataset_of(data))
    reading = iter(dataset_of(data, size=8))  # in the middle of an epoch, the next chunk under way
    for _ in range(3):
        next(reading)
        workers = DataLoader(
            dataset_of(data), batch_size=None, num_workers=2, multiprocessing_context="fork",
            timeout=60,
        )  # fmt: skip
        check_equal(batches_of(workers), expected)
        next(reading)


def test_no_thread_outlives_the_epoch(files):
    before = threading.active_count()
    iterator = iter(dataset_of(prepared(files, 2)))
    next(iterator)
    del iterator  # stopped early
    list(dataset_of(prepared(files, 2)))
    assert threading.active_count() == before


def test_a_batch_that_is_written_to_leaves_the_others_as_they_are(files):
    data = prepared(files)
    expected = batches_of(dataset_of(data))
    found = []
    for batch in dataset_of(data):
        found.append({name: values.numpy().copy() for name, values in batch.items()})
        for values in batch.values():
            values.zero_()
    check_equal(found, expected)


def test_a_batch_of_a_worker_is_one_block(files):
    batch = next(iter(dataset_of(prepared(files))))
    arrays = {name: values.numpy() for name, values in batch.items()}
    shared = SharedBatch.of(arrays)
    assert isinstance(shared, WholeBatch)
    block = shared.block.tensor
    start, size = block.data_ptr(), len(block)
    assert block.is_shared()
    for values in shared.values():
        assert start <= values.data_ptr() <= start + size - values.nbytes
    again = pickle.loads(pickle.dumps(shared))
    assert type(again) is WholeBatch
    check = {name: values.numpy() for name, values in again.items()}
    assert list(check) == list(arrays)
    for name, values in arrays.items():
        assert (check[name].dtype, check[name].shape) == (values.dtype, values.shape)
        assert check[name].tobytes() == values.tobytes()


@pytest.mark.parametrize("plain", [False, True])
def test_a_loader_hands_over_blocks_and_uses_them_again(files, plain):
    """The DataLoader copied each batch in the worker, and sent all its tensors by themselves."""
    dataset = dataset_of(prepared(files))
    if plain:
        context = "forkserver"
        loader = DataLoader(
            dataset, batch_size=None, num_workers=1, multiprocessing_context=context
        )
    else:
        loader = dataset.loader(num_workers=1)
    places = set()
    for batch in loader:
        found = sorted((values.data_ptr(), values.nbytes) for values in batch.values())
        start, (last, size) = found[0][0], found[-1]
        assert last + size - start < sum(size + ALIGNMENT for _, size in found)
        places.add(start)
        held = batch["x"]  # as long as one tensor is there, its memory is
        kept = held.clone()
        del batch
        assert torch.equal(held, kept)
    assert len(places) < len(dataset) / 2


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_that_drops_a_batch_does_not_give_it_back(files):
    """The worker would write into what the parent still has."""
    batch = next(iter(dataset_of(prepared(files))))
    shared = SharedBatch.of({name: values.numpy() for name, values in batch.items()})
    received = pickle.loads(ForkingPickler.dumps(shared))
    marks = shared.block.memory
    child = os.fork()
    if not child:
        del received
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert marks[shared_batch.IN_USE]
    del received
    assert not marks[shared_batch.IN_USE]


def test_blocks_of_workers_that_ended_are_closed_when_others_come(files):
    """Their memory would stay as long as this process does."""
    pids = []
    for _ in range(2):
        loader = dataset_of(prepared(files)).loader(num_workers=1)
        list(loader)
        pids.append(loader._iterator._workers[0].pid)
        assert {name[0] for name in shared_batch._open} >= {pids[-1]}
        loader._iterator._shutdown_workers()
        del loader
    assert pids[0] not in {name[0] for name in shared_batch._open}


def test_workers_hand_over_ragged_and_empty_arrays(files):
    inputs = {"ids": {"kind": "ragged", "features": ["Jet_pt"]}}
    data = prepared(files, inputs=inputs)
    expected = batches_of(dataset_of(data))
    check_equal(batches_of(dataset_of(data).loader(num_workers=1)), expected)
    empty = SharedBatch.of({"x": np.empty((0, 3), np.float32), "y": np.empty(0, np.int64)})
    assert torch.equal(empty["x"], torch.empty(0, 3))
    assert empty["y"].dtype == torch.int64


def test_what_was_delivered_is_in_the_ledger_and_no_more(files, tmp_path: Path):
    """The next chunk is made already: what it holds is not delivered yet."""
    data = prepared(files, 2, defaults={"length": 1})
    dataset = dataset_of(data)
    iterator = iter(dataset)
    batches = [next(iterator) for _ in range(3)]
    del iterator
    ledger = dataset.ledger
    lengths = sum(len(batch["x"]) for batch in batches)
    assert ledger.count("events delivered") == lengths
    cut = ledger.count("events with values beyond the pad length")
    rest = dataset_of(data)
    list(rest)
    assert 0 < cut < rest.ledger.count("events with values beyond the pad length")
