"""ROOT files as a ``tf.data.Dataset`` of whole batches."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError, HepDataError, refuse_change
from hepdata_adapters.common.core.machine import keep_freed_memory
from hepdata_adapters.common.core.stopwatch import Stopwatch
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.plan.shard import Shard, Uneven
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.stream.batch_source import BatchSource
from hepdata_adapters.common.stream.dataset import Batch, Dataset, check_split
from hepdata_adapters.common.stream.epoch import Epoch, EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.stream.prepare import (
    Samples,
    check_batch_size,
    environment_ranks,
    prepare,
    tell_split,
)
from hepdata_adapters.common.stream.shared_batches import Copies, batch_fields, fixed_fields
from hepdata_adapters.common.stream.worker_pool import BatchWorkers, check_workers
from hepdata_adapters.tf.data.convert import Elements, Inputs, RaggedNames, signature
from hepdata_adapters.tf.data.shutdown import Shutdown

_FIXED = {"batch_size", "num_workers", "prepared", "ranks", "split"}


class RootSource(BatchSource):
    """Streams the events of ROOT files, each event once an epoch, into ``tf.data`` pipelines.

    samples: a path, glob or URL (``file.root:tree``), a list of them, a dict of path to label,
    `Sample` objects, a `DatasetConfig`, a YAML file, or a `Dataset` that is scanned already.
    batch_size: events of a batch, per rank.
    split: ``"train"``, ``"validation"``, ``"test"``, or None for all events, which is said on
    standard error where there are labels to train with.
    shuffle: by (seed, epoch), the samples mixed in proportion; without it, file order.
    epoch: the order of the first pass; each further pass, as a new epoch of ``model.fit``
    makes it, takes the next. A fit that goes on with a later epoch (``initial_epoch``,
    ``BackupAndRestore``) follows with the callback
    ``keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: source.set_epoch(epoch))``.
    rank, world_size: by default from RANK and WORLD_SIZE, else one rank. input_context: takes
    both from a `tf.distribute.InputContext`; the workers that TF_CONFIG names are known to
    the strategy alone, so there it must be given.
    uneven, canonical_ranks, canonical_workers, events_per_epoch, repeat, drop_last: as in
    `RootIterableDataset`.
    num_workers: processes that read; 0 reads in a thread of this one.
    Other arguments (``features``, ``exclude``, ``task``, …) are those of `DatasetConfig`.

    A script that ends in the middle of a pass with ``num_workers=0`` may hang at its exit on a busy
    machine, when TensorFlow's thread is caught in Python: end the pass, or delete the iterator.

    For equal arguments the batches are those of `RootIterableDataset`, bit by bit.

    Raises ConfigError, DataError or SpecsError as soon as it is built: every file is opened
    once, and the specs are read from the cache or made. In a pass TensorFlow wraps an error in
    one of its own, whose message holds ours; `error` has the original.
    """

    def __init__(
        self,
        samples: Samples | Dataset,
        *,
        batch_size: int = 256,
        split: SplitName | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        epoch: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        input_context: Any = None,
        uneven: Uneven = "pad",
        canonical_ranks: int | None = None,
        canonical_workers: int | None = None,
        events_per_epoch: int | None = None,
        repeat: bool = False,
        drop_last: bool = False,
        specs: Specs | str | Path | None = None,
        num_workers: int = 0,
        progress: bool = True,
        **config_options: Any,
    ) -> None:
        check_split(split)
        if batch_size is None:
            raise ConfigError("batch_size is needed: a tf.data.Dataset here has whole batches")
        check_batch_size(batch_size)
        check_workers(num_workers)
        self.ranks = _ranks(rank, world_size, input_context)
        prepared = prepare(samples, config_options, specs, progress=progress)
        seed = prepared.config.sampling.seed if seed is None else seed
        options = EpochOptions(
            batch_size, shuffle, seed, uneven, canonical_ranks, canonical_workers,
            events_per_epoch, repeat, drop_last,
        )  # fmt: skip
        self._set_up(prepared, split, options)
        self.batch_size, self.num_workers = batch_size, num_workers
        self._next = options.epoch(epoch, *self.ranks)
        self._next.check(prepared, split)
        self.error: HepDataError | None = None
        self._lock = threading.Lock()
        self._reading = Stopwatch()
        if num_workers:
            fixed_fields(prepared)  # refuses what worker processes cannot share, at once
        self._idle: EventStream | BatchWorkers | None = None
        if progress:
            tell_split(prepared, split)

    def __setattr__(self, name: str, value: object) -> None:
        advice = f"make a new one: RootSource(source.prepared, {name}=…)"
        refuse_change(self, name, _FIXED, advice)
        super().__setattr__(name, value)

    @property
    def seconds_reading(self) -> float:
        """How long batches were being made, or waited for from the worker processes.

        TensorFlow's thread does this while it runs the model, so nobody need have waited.
        """
        return self._reading.seconds

    @property
    def epoch(self) -> int:
        """The number of the next epoch."""
        return self._next.number

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch; the same number gives the same order."""
        with self._lock:
            self._next = replace(self._next, number=epoch)

    def __len__(self) -> int:
        """Batches of this rank in an epoch; raises TypeError with ``repeat``."""
        return self._next.length(self.prepared, self.split)

    def dataset(
        self,
        as_: Literal["dict", "tuple"] = "dict",
        inputs: Inputs | None = None,
        ragged: RaggedNames = (),
        cast: Mapping[str, Any] | None = None,
        prefetch: int = 2,
    ) -> Any:
        """The ``tf.data.Dataset`` of these batches: whole, of known number and signature.

        as_: ``"dict"`` gives ``x (n, d)`` float32, ``mask (n, d)`` bool (true = real value),
        ``lengths (n, j)`` int32 (values kept of each jagged branch), ``label (n,)`` (if the
        samples have one; float32 for two classes, int64 for more), ``weight (n,)`` float64 and
        ``event (n, 2)`` int64 (file number in the manifest, entry in the file). With
        several ranks, all get equally many rows: missing ones have weight 0 and event (-1, -1).
        ``"tuple"`` gives (inputs, label, weight), as ``model.fit`` takes it.
        inputs: for tuples, the name of one tensor, or a list of names for a dict of them; by
        default what a model of this config takes, ``x`` where it has no ``inputs``.
        ragged: jagged branches that come as `tf.RaggedTensor` too, ``(n, None)`` float32, in
        the dict ``"ragged"``; or a dict of group name to branches of equal lengths, each group
        ``(n, None, f)``. The values are those kept in ``x``: scaled, and cut at the pad length.
        cast: dtype by name, as ``{"weight": "float32"}``: float32 or float64. Floats are
        rounded; whole numbers must stay exact.
        prefetch: batches made ahead, in a thread of TensorFlow.

        Raises ConfigError for a name that is unknown, a flat branch among ``ragged``, a cast
        that is not exact, and tuples of samples without a label.
        """
        elements = Elements.of(self.prepared, as_=as_, inputs=inputs, ragged=ragged, cast=cast)
        spec = signature(batch_fields(self.prepared))
        # TensorFlow never lets go of a generator function, so this one must not hold the source;
        # what holds it is the dataset, which derived datasets and iterators keep
        itself = weakref.ref(self)
        generated = tf.data.Dataset.from_generator(
            lambda: _alive(itself)._batches(), output_signature=spec
        )
        generated.source = self
        number = tf.data.INFINITE_CARDINALITY if self.epoch_options.repeat else len(self)
        counted = generated.apply(tf.data.experimental.assert_cardinality(number))
        options = tf.data.Options()
        # nothing here is left to tune, and at the end of a pass the iterator would wait, often
        # half a second and up to five, for the thread that tunes to wake up
        options.autotune.enabled = False
        # the ranks share out the events; TensorFlow must not do it once more
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        mapped = counted if elements.as_they_are else counted.map(elements)
        dataset = mapped.prefetch(prefetch).with_options(options)
        dataset.source = self
        return dataset

    def _batches(self) -> Iterator[Batch]:
        """One pass. TensorFlow may run several at once, each in threads of its choice."""
        with self._lock:
            epoch = self._next
            self._next = replace(epoch, number=epoch.number + 1)
            reader, self._idle = self._idle, None
        if reader is None:
            reader = self._reader()
        keep_freed_memory()  # this generator has just made TensorFlow forbid it
        complete = False
        try:
            with _shutdown.watched(reader):
                for batch in self._reading.timed(self._read(reader, epoch)):
                    yield batch
                    if _shutdown.begun:
                        return
            complete = True
        except HepDataError as error:
            self.error = error
            raise
        finally:
            with self._lock:
                if complete and self._idle is None:
                    self._idle, reader = reader, None  # files and caches stay open
            if reader is not None:
                reader.close()

    def _read(self, reader: EventStream | BatchWorkers, epoch: Epoch) -> Iterator[Batch]:
        if isinstance(reader, EventStream):
            yield from epoch.batches(reader, self._ledger)
            return
        for batch in reader.batches(epoch, self._ledger):
            # TensorFlow would take the shared memory itself, which is written again
            yield self._copies(batch)

    @cached_property
    def _copies(self) -> Copies:
        return Copies(fixed_fields(self.prepared), self.batch_size)

    def _reader(self) -> EventStream | BatchWorkers:
        if not self.num_workers:
            return EventStream(self.prepared, self.split)
        return BatchWorkers(
            self.prepared, self.split, batch_size=self.batch_size, workers=self.num_workers
        )


def root_dataset(
    samples: Samples | Dataset,
    *,
    as_: Literal["dict", "tuple"] = "dict",
    inputs: Inputs | None = None,
    ragged: RaggedNames = (),
    cast: Mapping[str, Any] | None = None,
    prefetch: int = 2,
    **options: Any,
) -> Any:
    """ROOT files as a ``tf.data.Dataset``: `RootSource` and `RootSource.dataset` in one call.

    options: ``batch_size``, ``split``, ``shuffle``, … as `RootSource` takes them.

    The dataset has the source as ``.source``: ledger, feature names, ``set_epoch``. Datasets
    derived from it (``.map(…)``, ``.take(…)``) do not carry the attribute.

    >>> import tempfile, uproot, numpy as np
    >>> path = tempfile.mkdtemp() + "/met.root"
    >>> with uproot.recreate(path) as file:
    ...     _ = file.mktree("Events", {"MET": "float32"})
    ...     file["Events"].extend({"MET": np.arange(100, dtype=np.float32)})
    >>> dataset = root_dataset(path, batch_size=40, shuffle=False, progress=False)
    >>> len(dataset), dataset.source.feature_names, [len(batch["x"]) for batch in dataset]
    (3, ['MET'], [40, 40, 20])
    >>> dataset.element_spec["x"]
    TensorSpec(shape=(None, 1), dtype=tf.float32, name=None)
    """
    source = RootSource(samples, **options)
    return source.dataset(as_, inputs, ragged, cast, prefetch)


def _ranks(rank: int | None, world_size: int | None, context: Any) -> tuple[int, int]:
    """(rank, world size): of the context, else the arguments, else the environment."""
    given = rank is not None or world_size is not None
    if context is not None:
        if given:
            raise ConfigError("input_context holds rank and world_size: give it or them, not both")
        ranks = context.input_pipeline_id, context.num_input_pipelines
    elif given:
        ranks = rank or 0, 1 if world_size is None else world_size
    else:
        ranks = environment_ranks()
    Shard(*ranks)  # raises for a rank that is not among them
    return ranks


def _alive(source: weakref.ref[RootSource]) -> RootSource:
    found = source()
    if found is None:
        raise ConfigError("the RootSource of this dataset is gone: keep the dataset itself alive")
    return found


_shutdown = Shutdown()
