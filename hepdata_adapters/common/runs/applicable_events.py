"""Which events of any files a trained model is for: sample, selection, split and weight of each.

A file belongs to the sample whose files name it. Another one gets the selection and the weight
that all samples have, or those of a sample that is named. Its events have a split where identity
or a branch say so: file and entry number tell of files of the training only.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample, Weight
from hepdata_adapters.common.config.feature_config import Feature
from hepdata_adapters.common.config.split_config import FractionSplit, Split
from hepdata_adapters.common.core.columns import Columns
from hepdata_adapters.common.core.errors import ConfigError, HepDataError, nearest
from hepdata_adapters.common.events.layout import Layout, resolve
from hepdata_adapters.common.events.selection import selected
from hepdata_adapters.common.events.split import OUTSIDE, Entries, strategy
from hepdata_adapters.common.events.targets import one_each
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.files.derived_columns import computed_targets, derived
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.open import expand, is_remote, split_tree
from hepdata_adapters.common.runs.run_folder import RunParts

NONE, UNKNOWN = "none", "unknown"
_NO_WEIGHT = Weight(cross_section=1.0, luminosity=1.0)  # as one that no file alone can tell


@dataclass(frozen=True, eq=False)
class Role:
    """What a file is to a model. sample: its name; file: with what its selection needs.

    weight: the branch and the constant, None where no weight is known. trained: whether the
    training saw the file. identity: the branches that decide the split of its events, None where
    nothing does.
    """

    sample: str
    file: FileInfo
    weight: Weight | None
    trained: bool
    identity: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class Applied:
    """A model and the files that it is applied to, in their order."""

    split: Split
    layout: Layout
    roles: tuple[Role, ...]

    def branches(self, role: Role) -> tuple[str, ...]:
        """What to read of a file beside the model's branches."""
        selection = self.layout.selections[role.file.sample]
        names = [*sorted(selection.names if selection else ()), *(role.identity or ())]
        names += [drop.branch for drop in self.layout.drops]
        if role.weight and role.weight.branch:
            names.append(role.weight.branch)
        return tuple(dict.fromkeys(names))

    def selected(self, role: Role, columns: Columns, events: int) -> NDArray[np.bool_]:
        """The events that training would have taken, ``(n,)``."""
        every = np.zeros(events, np.int64)
        return np.asarray(selected(every, self.layout, role.file.sample, columns) >= 0)

    def codes(
        self, role: Role, columns: Columns, selected: NDArray[np.bool_], start: int
    ) -> NDArray[np.int64]:
        """The split of each event, ``(n,)``: an index into `SPLITS`, or `OUTSIDE`."""
        events = len(selected)
        if role.identity is None:
            return np.full(events, OUTSIDE, np.int64)
        entries = Entries(role.file, start, start + events, columns)
        codes = strategy(self.split).codes_if_known(role.identity, entries, trained=role.trained)
        return np.where(selected, codes, OUTSIDE)

    def weights(self, role: Role, columns: Columns, events: int) -> NDArray[np.float64] | None:
        """The weight of each event as the config has it, ``(n,)``, if it is known."""
        if role.weight is None:
            return None
        if role.weight.branch is None:
            return np.full(events, role.weight.constant)
        values = one_each(columns[role.weight.branch])
        return np.asarray(values.astype(np.float64) * role.weight.constant)


def apply(run: RunParts, manifest: Manifest, sample: str | None, *, every: bool) -> Applied:
    """What the files of ``manifest`` are to a run.

    sample: the name of the one they all belong to. every: no selection is asked for, so none
    need be known.
    Raises ConfigError for a name that is no sample, or where the selection of a file is unknown,
    BranchError where a file lacks a branch that its selection needs.
    """
    samples = tuple(
        _without_label(_sample(run.config, file, sample, every=every), file)
        for file in manifest.files
    )
    config = _config(run, samples, manifest)
    files = [replace(file, sample=number) for number, file in enumerate(manifest.files)]
    known = derived(config, Manifest(tuple(files)))
    layout = resolve(config, known)
    drops = tuple(drop for drop in layout.drops if str(drop) in run.specs.binding.drops)
    layout = replace(layout, drops=drops)
    roles = tuple(_role(run, file, own) for file, own in zip(known.files, samples, strict=True))
    return Applied(run.config.split, layout, roles)


def _role(run: RunParts, file: FileInfo, sample: Sample) -> Role:
    trained = any(
        record.place == (file.content.digest, file.tree) for record in run.specs.binding.files
    )
    identity = run.specs.binding.identity
    known = strategy(run.config.split).tells(identity, trained=trained)
    known = known and all(name in file.schema for name in identity)
    weight: Weight | None = sample.weight
    if sample.weight.cross_section is not None or (
        sample.weight.branch is not None and sample.weight.branch not in file.schema
    ):
        weight = None
    return Role(sample.name, file, weight, trained, identity if known else None)


def _without_label(sample: Sample, file: FileInfo) -> Sample:
    return sample.model_copy(update={"files": (file.url,), "label": None})


def _sample(config: DatasetConfig, file: FileInfo, name: str | None, *, every: bool) -> Sample:
    """The sample of a file, or one called `UNKNOWN` with what all samples have in common."""
    names = [sample.name for sample in config.samples]
    if name is not None:
        if names.count(name) != 1:
            wrong = "no sample" if name not in names else f"{names.count(name)} samples"
            raise ConfigError(
                f"{wrong} of the training is called {name!r}{nearest(name, names)}: there are "
                f"{', '.join(dict.fromkeys(names))}"
            )
        return config.samples[names.index(name)]
    found = [sample for sample in config.samples if _holds(sample, file)]
    if len(found) == 1:
        return found[0]
    candidates = found or list(config.samples)
    selections = {sample.selection for sample in candidates}
    if len(selections) > 1 and not every:
        which = "several" if found else "none"
        raise ConfigError(
            f"{file.url} belongs to {which} of the samples of the training, whose selections "
            f"differ: say which one holds with --sample ({', '.join(dict.fromkeys(names))}), or "
            f"score every event with --all"
        )
    weights = {sample.weight.model_dump_json(): sample.weight for sample in candidates}
    return Sample(
        files=(file.url,),
        name=UNKNOWN,
        selection=selections.pop() if len(selections) == 1 else None,
        weight=next(iter(weights.values())) if len(weights) == 1 else _NO_WEIGHT,
    )


def _holds(sample: Sample, file: FileInfo) -> bool:
    """Whether a sample of the config names a file."""
    for name in sample.files:
        pattern, tree = split_tree(name)
        if (tree or sample.tree) not in (None, file.tree):
            continue
        if is_remote(pattern) or is_remote(file.url):
            if fnmatchcase(file.url, pattern):
                return True
            continue
        with suppress(HepDataError):  # files that are gone
            here = Path(file.url).resolve()
            if any(Path(path).resolve() == here for path in expand(pattern)):
                return True
    return False


def _config(run: RunParts, samples: tuple[Sample, ...], manifest: Manifest) -> DatasetConfig:
    """The run's config as it is for these files, with the derived columns that are needed."""
    config = run.config
    features = config.features
    if features == "*":
        features = tuple(Feature(branch=made.branch) for made in run.transform.features)
    files = {name for file in manifest.files for name in file.schema}
    known = files | set(config.derived)
    wanted = {name for s in samples if s.selection for name in parse(s.selection, known).names}
    wanted |= {*run.transform.columns, *run.specs.binding.identity}
    wanted |= {s.weight.branch for s in samples if s.weight.branch in config.columns}
    weights = [
        _computed_weight(sample, file, set(config.derived))
        for sample, file in zip(samples, manifest.files, strict=True)
    ]
    wanted |= {name for w in weights if w.branch for name in parse(w.branch, known).names}
    columns: dict[str, str] = {}
    while wanted:
        name = wanted.pop()
        if name in config.columns and name not in columns:
            columns[name] = config.columns[name]
            wanted |= parse(columns[name], known).names
    samples = tuple(
        sample.model_copy(update={"weight": weight})
        for sample, weight in zip(samples, weights, strict=True)
    )
    return config.model_copy(
        update={
            "samples": samples, "features": features, "columns": columns, "exclude": (),
            "task": None, "specs": None, "split": FractionSplit(identity="entry"),
        }
    )  # fmt: skip


def _computed_weight(sample: Sample, file: FileInfo, derived: set[str]) -> Weight:
    """The weight where it is an expression that the file can compute; a branch is read as it is."""
    known = derived | set(file.schema)
    for text in computed_targets(sample, [file]):
        if parse(text, known).names <= known:
            return Weight(branch=text)
    return Weight()
