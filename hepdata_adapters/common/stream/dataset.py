"""A dataset before its events are read: files, specs, transform, and what an epoch holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.problems import told
from hepdata_adapters.common.core.cache import Cache, cache_folder
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.ledger import Ledger, LedgerKind, SharedLedger
from hepdata_adapters.common.core.machine import available_memory
from hepdata_adapters.common.events.class_balance import ClassShare, apportion, class_balance
from hepdata_adapters.common.events.class_counts import Counts, cached_counts
from hepdata_adapters.common.events.cross_sections import scaled_to_cross_sections
from hepdata_adapters.common.events.layout import Layout, resolve
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.files.column_store import check_arrow
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.plan.plan import Plan, PlanFile
from hepdata_adapters.common.specs.compute import Progress, binding_of, cached_specs
from hepdata_adapters.common.specs.identity_checks import check_identity
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.notes import Note, notes_of
from hepdata_adapters.common.stream.memory import buffer_of, check_memory, unit_bytes
from hepdata_adapters.common.transform.assemble import assemble
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.usable_features import settled

EXACT_IN_FLOAT32 = 2**24  # all whole numbers up to here
MAX_GROUPS = 64
Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything known about a dataset before its events are read: pickles into workers.

    not_kept: the cache folder, once for each file that could not be written to it.
    """

    config: DatasetConfig
    manifest: Manifest
    layout: Layout
    specs: Specs
    transform: Transform
    counts: Counts | None = None
    not_kept: tuple[str, ...] = ()

    @classmethod
    def prepare(
        cls,
        config: DatasetConfig,
        specs: Specs | None = None,
        cache: Path | None = None,
        progress: Progress | None = None,
        transform: Transform | None = None,
    ) -> Dataset:
        """Scan the files and find, check or make the specs.

        transform: take this one (of a trained model) rather than building it from the specs.
        """
        if config.reading.cache_folder is not None:
            check_arrow()  # rather than in the first epoch
        manifest = scan(config)
        layout = resolve(config, manifest)
        kept = Cache(cache or cache_folder())
        if specs is None:
            specs = cached_specs(config, manifest, layout, kept, progress)
        else:
            wanted = binding_of(config, manifest, layout)
            specs.verify(wanted, "the given specs")
            specs = specs.read_here(wanted)
        check_identity(config.split, specs)
        layout = settled(config, manifest, layout, specs, transform.columns if transform else ())
        try:
            built = transform or assemble(layout, manifest, specs)
        except ConfigError as error:
            raise told(error, config) from None
        buffer = buffer_of(built, config.sampling, specs)
        check_memory(buffer, available_memory())
        unit_bytes(buffer, config.reading)  # refuses what does not fit, at once
        config = scaled_to_cross_sections(config, manifest, layout, kept)
        counts = None
        if config.sampling.changes_composition:
            data = digest([specs.hash, manifest.here])
            counts = cached_counts(config, manifest, layout, kept, data)
            class_balance(counts, config.sampling)  # refuses what cannot be had, at once
        return cls(config, manifest, layout, specs, built, counts, tuple(kept.faults))

    def notes(self) -> Ledger:
        """What the ledger says of the dataset itself, before any event is delivered."""
        ledger = Ledger()
        for file in self.manifest.empty:
            ledger.add("files without events", 1, f"{file.url}:{file.tree}")
        for branch in self.layout.columns:
            ledger.add("branches used as features", 1, branch)
        for folder in self.not_kept:
            ledger.add("files not kept in the cache", 1, folder)
        for branch in self.layout.excluded:
            ledger.add("branches excluded", 1, branch)
        for note in self.remarks:
            for place, count in note.counts.items():
                ledger.add(note.kind, count, place)
        for file in self.manifest.files:
            for name in file.preparation.needs(self.layout.branches):
                found = file.schema.get(name)
                if found and found.namesakes > 1:
                    kind: LedgerKind = "branches of a name that an earlier one has (not read)"
                    ledger.add(kind, found.namesakes - 1, f"{name} in {file.url}")
        for number, file in enumerate(self.manifest.files):
            dropped = self.specs.binding.files[number].dropped
            for reason, events in zip(self.specs.binding.drops, dropped, strict=True):
                ledger.add("events left out by a policy", events, reason)
            rejected = file.entries - int(self.specs.counts(number, None).sum()) - sum(dropped)
            ledger.add("events not selected", rejected, self.config.samples[file.sample].name)
        return ledger

    @cached_property
    def remarks(self) -> list[Note]:
        """What people should know before they believe a number that comes of these events."""
        return notes_of(self.config, self.manifest, self.layout, self.specs)

    def last_read(self, ledger: SharedLedger, pid: int) -> str:
        """What a process read last, in words: for the error that tells of its death."""
        note = ledger.read_note(pid)
        if note is None:
            return "it had read nothing"
        number, first, stop = note
        file = self.manifest.files[number]
        return f"it last read entries {first} to {stop} of tree {file.tree} in {file.url}"

    @cached_property
    def class_balance(self) -> dict[int, ClassShare]:
        """The classes of an epoch of training events, if it is not each event once."""
        return class_balance(self.counts, self.config.sampling) if self.counts else {}

    def events(self, split: SplitName | None) -> int:
        """Events of a split (or all) that an epoch delivers."""
        if split == "train" and self.counts:
            return sum(share.delivered for share in self.class_balance.values())
        return self.specs.events(split)

    def groups(self, split: SplitName | None) -> tuple[list[list[PlanFile]], list[int] | None]:
        """The files as the plan mixes them, and the events it takes of each group if not all.

        A group is a file; where these are more than `most_groups`, a sample; where these are
        too, the samples of one label. Classes have groups of their own where the composition of
        the training events is changed.
        """
        if split == "train" and self.counts:
            return self._class_groups(self.counts)
        files = [
            PlanFile(number, self.specs.counts(number, split))
            for number in range(len(self.manifest.files))
        ]
        return self._grouped(files), None

    @property
    def most_groups(self) -> int:
        """Groups whose units fit into the memory of a process that reads all canonical streams.

        Each stream has one unit of each group in use at a time. With more, a unit would be
        decompressed again for each chunk that needs a part of it.
        """
        entries = max(int(np.diff(file.units).max(initial=0)) for file in self.manifest.files)
        width = sum(self.specs.branches[name].mean_bytes for name in self.specs.binding.branches)
        used = self.config.sampling.canonical_workers * entries * width
        return max(1, min(MAX_GROUPS, int(self.unit_bytes // max(used, 1.0))))

    @cached_property
    def unit_bytes(self) -> int:
        """Bytes for decompressed units, of all processes that read together."""
        buffer = buffer_of(self.transform, self.config.sampling, self.specs)
        return unit_bytes(buffer, self.config.reading)

    def _grouped(self, files: list[PlanFile]) -> list[list[PlanFile]]:
        samples = [self.manifest.files[file.number].sample for file in files]
        labels = [str(self.config.samples[sample].label) for sample in samples]
        own = [str(file.number) for file in files]
        for keys in (own, list(map(str, samples)), labels):
            if len(set(keys)) <= self.most_groups:
                break
        groups: dict[str, list[PlanFile]] = {}
        for key, file in zip(keys, files, strict=True):
            groups.setdefault(key, []).append(file)
        return list(groups.values())

    def _class_groups(self, counts: Counts) -> tuple[list[list[PlanFile]], list[int]]:
        resample = self.config.sampling.resample
        groups: list[list[PlanFile]] = []
        sizes: list[int] = []
        for label, share in self.class_balance.items():
            own = self._grouped(
                [
                    PlanFile(number, np.array(found.copies if resample else found.events), label)
                    for number, classes in enumerate(counts.files)
                    if (found := classes.get(label))
                ]
            )
            groups += own
            sizes += apportion(share.delivered, [sum(f.events for f in group) for group in own])
        return groups, sizes

    def plan(
        self,
        split: SplitName | None,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        epoch: int,
        canonical_ranks: int = 1,
        canonical_workers: int | None = None,
    ) -> Plan:
        """The plan of an epoch; batch_size counts the rows of all ranks together."""
        sampling = self.config.sampling
        groups, sizes = self.groups(split)
        return Plan(
            groups,
            sizes=sizes,
            seed=seed,
            epoch=epoch,
            batch_size=batch_size,
            chunk_size=sampling.chunk_size,
            shuffle=shuffle,
            canonical_ranks=canonical_ranks,
            canonical_workers=canonical_workers or sampling.canonical_workers,
        )


def label_dtype(dataset: Dataset) -> np.dtype[Any]:
    """int64 for several classes, float32 for two, as binary cross entropy takes them.

    For regression the smallest float that holds the label exactly.
    """
    if dataset.layout.task == "binary":
        return np.dtype(np.float32)
    if dataset.layout.task != "regression":
        return np.dtype(np.int64)
    dtypes = [dataset.specs.branches[name].dtype for name in dataset.layout.labels]
    constants = [s.label for s in dataset.config.samples if isinstance(s.label, int | float)]
    beyond = any(abs(number) > EXACT_IN_FLOAT32 for number in constants)
    return np.result_type(np.float64 if beyond else np.float32, *dtypes)


def check_split(split: str | None) -> None:
    """Raise ConfigError for a name that is no split."""
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split is one of {', '.join(SPLITS)} or None, not {split!r}")
