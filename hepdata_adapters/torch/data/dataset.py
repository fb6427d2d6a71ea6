"""ROOT files as a PyTorch iterable dataset."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from hepdata_adapters.common.core.errors import ConfigError, refuse_change
from hepdata_adapters.common.core.parent_process import end_with_parent
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.plan.cursor import Cursor
from hepdata_adapters.common.plan.shard import Uneven
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.stream.batch_source import BatchSource
from hepdata_adapters.common.stream.dataset import Batch, Dataset, check_split
from hepdata_adapters.common.stream.epoch import Epoch, EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.main_script import check_script
from hepdata_adapters.common.stream.prepare import (
    Samples,
    check_batch_size,
    environment_ranks,
    prepare,
    tell_split,
)
from hepdata_adapters.torch.data.convert import TensorBatch
from hepdata_adapters.torch.data.iterator import BatchIterator
from hepdata_adapters.torch.data.loader import RootLoader, remove_shared_memory
from hepdata_adapters.torch.data.shared_position import SharedPosition

_FIXED = {"batch_size", "drop_last", "prepared", "seed", "shuffle", "split"}


class RootIterableDataset(BatchSource, IterableDataset[TensorBatch]):
    """Streams the events of ROOT files as tensors, each event once an epoch.

    samples: a path, glob or URL (``file.root:tree``), a list of them, a dict of path to label,
    `Sample` objects, a `DatasetConfig`, a YAML file, or a `Dataset` that is scanned already.
    batch_size: whole batches of this many events per rank (fast: use `loader`, or
    ``DataLoader(dataset, batch_size=None)``), or None for single events.
    split: ``"train"``, ``"validation"``, ``"test"``, or None for all events, which is said on
    standard error where there are labels to train with.
    shuffle: by (seed, epoch), the samples mixed in proportion; without it, file order.
    rank, world_size: by default from torch.distributed, else from RANK and WORLD_SIZE, else
    one rank.
    uneven: what becomes of rows that the ranks cannot share equally: ``"pad"``, ``"drop"`` or
    ``"wrap"`` (see `Shard`). drop_last: leave out a last batch of fewer events than the others
    (over all ranks), and count them. canonical_ranks, canonical_workers: see the module
    `hepdata_adapters.common.plan.plan`. events_per_epoch: events of all ranks in what ``len`` and
    ``set_epoch`` call an epoch; the next one goes on where it ended. repeat: a stream that never
    ends.
    Other arguments (``features``, ``exclude``, ``task``, …) are those of
    `DatasetConfig`.

    Batches hold ``x (n, d)`` float32, ``mask (n, d)`` bool (true = real value), ``lengths``
    int32 (values kept of each jagged branch), ``label`` (if the samples have one), ``weight``
    float64 and ``event (n, 2)`` int64 (file number in the manifest, entry in the file). With
    several ranks, all get equally many rows: missing ones have weight 0 and event (-1, -1).

    Raises ConfigError, DataError or SpecsError as soon as it is built: every file is opened
    once, and the specs are read from the cache or made. Whole batches refuse to be put together
    once more by a DataLoader with a ``batch_size`` (ConfigError). What a dataset delivers cannot
    be changed later; another one of ``dataset.prepared`` costs nothing.

    >>> import tempfile, uproot, numpy as np
    >>> path = tempfile.mkdtemp() + "/met.root"
    >>> with uproot.recreate(path) as file:
    ...     _ = file.mktree("Events", {"MET": "float32"})
    ...     file["Events"].extend({"MET": np.arange(100, dtype=np.float32)})
    >>> dataset = RootIterableDataset(path, batch_size=40, shuffle=False, progress=False)
    >>> len(dataset), dataset.feature_names, [len(batch["x"]) for batch in dataset]
    (3, ['MET'], [40, 40, 20])
    """

    def __init__(
        self,
        samples: Samples | Dataset,
        *,
        batch_size: int | None = None,
        split: SplitName | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        epoch: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "pad",
        canonical_ranks: int | None = None,
        canonical_workers: int | None = None,
        events_per_epoch: int | None = None,
        repeat: bool = False,
        drop_last: bool = False,
        specs: Specs | str | Path | None = None,
        progress: bool = True,
        **options: Any,
    ) -> None:
        check_split(split)
        check_batch_size(batch_size)
        prepared = prepare(samples, options, specs, progress=progress)
        seed = prepared.config.sampling.seed if seed is None else seed
        epoch_options = EpochOptions(
            batch_size or 1, shuffle, seed, uneven, canonical_ranks, canonical_workers,
            events_per_epoch, repeat, drop_last,
        )  # fmt: skip
        self._set_up(prepared, split, epoch_options)
        self.batch_size = batch_size
        self._position = SharedPosition(epoch, canonical_ranks, canonical_workers)
        self._rank, self._world_size = rank, world_size
        self._sender_ranks: tuple[int, int] | None = None
        self._streams: dict[int, list[EventStream]] = {}  # of each process, those not in use
        if drop_last and batch_size is None:
            raise ConfigError(
                "drop_last is for whole batches: give batch_size too, or let a DataLoader put the "
                "events together: DataLoader(dataset, batch_size=…, drop_last=True)"
            )
        self.next_epoch().check(prepared, split)  # refuses what makes no sense, at once
        if progress:
            tell_split(prepared, split)

    @property
    def ranks(self) -> tuple[int, int]:
        """(rank, world_size): the arguments, else torch.distributed, else the environment."""
        if self._world_size is not None or self._rank is not None:
            return self._rank or 0, 1 if self._world_size is None else self._world_size
        if self._sender_ranks and get_worker_info() is not None:
            # a spawned worker knows nothing of its rank's process group
            return self._sender_ranks
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return environment_ranks()

    @property
    def epoch(self) -> int:
        """The number of the next epoch."""
        return self._position.number

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch; the same number gives the same order."""
        self._position.set_number(epoch)

    def __len__(self) -> int:
        """Batches of this rank in an epoch, or events for ``batch_size=None``.

        Padding rows included; the same on all ranks. Raises TypeError with ``repeat``.
        """
        return self.next_epoch().length(self.prepared, self.split)

    def __setattr__(self, name: str, value: object) -> None:
        advice = f"make a new one: RootIterableDataset(dataset.prepared, {name}=…)"
        refuse_change(self, name, _FIXED, advice)
        super().__setattr__(name, value)

    def __iter__(self) -> BatchIterator:
        if get_worker_info() is not None:
            # here, so that it holds in any DataLoader: torch looks at the fork server, and that
            # one lives as long as its workers
            end_with_parent(partial(remove_shared_memory, os.getpid()))
            # Ctrl-C reaches the whole process group; the parent decides, and we end with it
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        return BatchIterator(self)

    def loader(self, **options: Any) -> RootLoader:
        """A DataLoader of the whole batches, which can be stopped and resumed at any of them.

        options: those of `RootLoader`: ``num_workers``, ``pin_memory``, ….
        """
        return RootLoader(self, **options)

    def next_epoch(self) -> Epoch:
        """The next epoch of this rank, the same but for the rank on all of them."""
        options = self.epoch_options.canonical(*self._position.canonical)
        return options.epoch(self._position.number, *self.ranks, self._position.start)

    def resumed_epoch(self, state: Mapping[str, Any], *, fresh: bool = False) -> Epoch:
        """The epoch that goes on where a state was taken. Raises StateError if it does not fit.

        fresh: at the start of an epoch, which may have another batch size.
        """
        # the canonical counts as given, not as an earlier state had them
        epoch = replace(self.next_epoch(), options=self.epoch_options)
        cursor = Cursor.of(state)
        if fresh:
            plan = cursor.plan.model_copy(update={"batch_size": epoch.global_batch_size})
            cursor = cursor.model_copy(update={"plan": plan, "batches": 0})
        return epoch.resumed(cursor, self.prepared, self.split)

    def set_next_epoch(self, epoch: Epoch) -> None:
        """Make this the next epoch, here and in worker processes."""
        self._position.set_to(epoch)

    def read(self, epoch: Epoch, worker: int, workers: int) -> Iterator[Batch]:
        """The arrays of one worker's batches; the files stay open from epoch to epoch."""
        # a forked worker keeps its parent's streams in the dict, untouched: closing files
        # that it shares with the parent could disturb the parent
        idle = self._streams.setdefault(os.getpid(), [])
        # epochs at the same time, maybe in threads, must not share one
        stream = idle.pop() if idle else EventStream(self.prepared, self.split, workers)
        try:
            yield from epoch.batches(stream, self._ledger, worker, workers)
        finally:
            idle.append(stream)

    def last_read(self, pid: int) -> str:
        """What a worker process read last, in words."""
        return self.prepared.last_read(self._ledger, pid)

    def __getstate__(self) -> dict[str, Any]:
        check_script()
        return {**self.__dict__, "_streams": {}, "_sender_ranks": self.ranks}
