"""Which branches are features, labels, weights and identity, decided from config and manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Task
from hepdata_adapters.common.config.feature_config import (
    COUNT,
    Clip,
    Feature,
    ImageInput,
    Input,
    Scaling,
    SetInput,
)
from hepdata_adapters.common.config.problems import Faults, each
from hepdata_adapters.common.core.errors import BranchError, ConfigError
from hepdata_adapters.common.events.feature_choice import (
    all_features,
    listed_features,
    nothing_left,
)
from hepdata_adapters.common.events.split import IDENTITY, split_branches, strategy
from hepdata_adapters.common.expressions import Expression, parse
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.schema import Branch


@dataclass(frozen=True)
class ResolvedFeature:
    """A feature with its branch and every default filled in."""

    branch: Branch
    scaling: Scaling
    length: float | Literal["max"]
    missing: float | Literal["error", "mean", "median", "drop"]
    overflow: Literal["truncate", "error", "drop"]
    clip: Clip | None = None
    indicator: bool = False
    pad: float = 0.0


@dataclass(frozen=True)
class ResolvedInput:
    """An input of the config with the features or branches that it is made of."""

    config: Input
    features: tuple[ResolvedFeature, ...]
    branches: tuple[str, ...]


@dataclass(frozen=True)
class Drop:
    """Events to leave out: a value of the branch is missing, or it has more than ``length``."""

    branch: str
    length: int | None = None

    def __str__(self) -> str:
        if self.length is None:
            return f"NaN or infinity in {self.branch}"
        return f"more than {self.length} values in {self.branch}"


@dataclass(frozen=True)
class Layout:
    """What is read of each event, and why.

    features: the columns of ``x``. inputs: further representations.
    identity: the branches that decide the split, see `split_branches`.
    selections: the cut on the events of each sample. drops: events that the policies of features
    leave out.
    excluded: branches that ``"*"`` left out, with the reason.
    """

    features: tuple[ResolvedFeature, ...]
    inputs: dict[str, ResolvedInput]
    labels: tuple[str, ...]
    weights: tuple[str, ...]
    identity: tuple[str, ...]
    task: Task | None
    excluded: dict[str, str]
    selections: tuple[Expression | None, ...]
    drops: tuple[Drop, ...]

    @property
    def all_features(self) -> tuple[ResolvedFeature, ...]:
        """The features of ``x`` and of the inputs, each branch with each policy once."""
        inner = (feature for given in self.inputs.values() for feature in given.features)
        return tuple(dict.fromkeys((*self.features, *inner)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The branches that the model's representations are made of."""
        names = [feature.branch.name for feature in self.features]
        for given in self.inputs.values():
            names += given.branches
        return tuple(dict.fromkeys(names))

    @property
    def statistics(self) -> tuple[str, ...]:
        """The branches whose statistics the specs hold."""
        names = self.columns
        return tuple(dict.fromkeys((*names, *self.labels, *self.weights)))

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches to read."""
        return tuple(dict.fromkeys((*self.statistics, *self.identity)))


def resolve(config: DatasetConfig, manifest: Manifest) -> Layout:
    """Match the config with the files.

    Raises BranchError, SchemaError or ConfigError; each names the branch and the file.
    """
    labels = _unique(s.label for s in config.samples if isinstance(s.label, str))
    weights = _unique(s.weight.branch for s in config.samples if s.weight.branch)
    faults = Faults()
    faults.ask(lambda: each(lambda found: _check_flat(*found), _targets(config, manifest)))
    identity = faults.ask(lambda: split_branches(config.split, manifest)) or ()
    vector = faults.ask(lambda: _vector(config, manifest, labels, weights, identity))
    features, excluded = vector or ((), {})
    inputs = {
        name: resolved
        for name, given in config.inputs.items()
        if (resolved := faults.ask(partial(_resolve_input, name, given, config, manifest, labels)))
    }
    selections = faults.ask(lambda: parse_selections(config, manifest)) or ()
    task = faults.ask(lambda: _task(config, manifest))
    faults.stop()
    if not features and not inputs:
        raise nothing_left(manifest, excluded)
    drops = tuple(dict.fromkeys(_drops(features, inputs)))
    return Layout(features, inputs, labels, weights, identity, task, excluded, selections, drops)


def _targets(config: DatasetConfig, manifest: Manifest) -> Iterable[tuple[FileInfo, str]]:
    """Labels and weights that are branches, with each file that must have them."""
    for file in manifest.files:
        sample = config.samples[file.sample]
        for name in (sample.label, sample.weight.branch):
            if isinstance(name, str):
                yield file, name


def _check_flat(file: FileInfo, name: str) -> None:
    branch = file.branch(name)
    if branch.kind != "flat":
        raise BranchError(
            f"a label or weight is one number an event, this is {branch.describe()}; make one of "
            f"it, such as any(…), sum(…) or {name}[0]",
            file=file.url, tree=file.tree, branch=name,
        )  # fmt: skip


def _vector(
    config: DatasetConfig,
    manifest: Manifest,
    labels: tuple[str, ...],
    weights: tuple[str, ...],
    identity: tuple[str, ...],
) -> tuple[tuple[ResolvedFeature, ...], dict[str, str]]:
    """The features of ``x``, and what ``"*"`` leaves out."""
    if config.features != "*":
        known = {*labels, *weights, *identity, *IDENTITY}
        chosen = listed_features(config, config.features, manifest, known)
        return _resolved(config, manifest, chosen, labels), {}
    reserved = dict.fromkeys(IDENTITY, "identity of the event")
    reserved |= dict.fromkeys(identity, strategy(config.split).excluded_as)
    reserved |= dict.fromkeys(weights, "weight") | dict.fromkeys(labels, "label")
    for name in _made_of(manifest, (*weights, *labels)):
        reserved.setdefault(name, "the label or the weight is computed from it")
    chosen, excluded = all_features(config, manifest, reserved)
    return _resolved(config, manifest, chosen, labels), excluded


def _resolved(
    config: DatasetConfig, manifest: Manifest, chosen: Iterable[Feature], labels: tuple[str, ...]
) -> tuple[ResolvedFeature, ...]:
    """Features with their branches and the defaults."""
    defaults = config.defaults

    def resolved(feature: Feature) -> ResolvedFeature:
        _refuse_label("features", feature.branch, labels, manifest)
        return ResolvedFeature(
            branch=manifest.branch(feature.branch),
            scaling=feature.scaling or defaults.scaling,
            length=defaults.length if feature.length is None else feature.length,
            missing=_first(feature.missing, defaults.missing, "error"),
            overflow=feature.overflow or defaults.overflow,
            clip=feature.clip,
            indicator=feature.indicator,
            pad=defaults.pad,
        )

    return each(resolved, chosen)


def _resolve_input(
    name: str, given: Input, config: DatasetConfig, manifest: Manifest, labels: tuple[str, ...]
) -> ResolvedInput:
    """An input with its branches. Raises BranchError or ConfigError naming the input."""
    features: tuple[ResolvedFeature, ...] = ()
    if isinstance(given, ImageInput):
        axes = tuple(axis.branch for axis in given.axes)
        branches = axes + tuple(channel for channel in given.channels if channel != COUNT)
    else:
        chosen = listed_features(config, given.features, manifest, {*labels})
        features = _resolved(config, manifest, chosen, labels)
        branches = tuple(feature.branch.name for feature in features)
    for branch in map(manifest.branch, branches):
        if branch.kind != "jagged":
            raise BranchError(
                f"inputs.{name}: {given.kind} inputs are made of jagged branches, this is "
                f"{branch.describe()}",
                branch=branch.name,
            )
        _refuse_label(f"inputs.{name}", branch.name, labels, manifest)
    return ResolvedInput(given, features, tuple(dict.fromkeys(branches)))


def _first(*values: Any) -> Any:
    """The first that is given."""
    return next(value for value in values if value is not None)


def _made_of(manifest: Manifest, names: Iterable[str]) -> set[str]:
    """The branches and columns that those of the names that are computed are made of."""
    found: set[str] = set()
    for file in manifest.files:
        computed = [name for name in names if name in file.preparation.parsed_columns]
        found |= file.preparation.made_of(computed)
    return found.difference(names)


def _refuse_label(place: str, branch: str, labels: tuple[str, ...], manifest: Manifest) -> None:
    """Raise ConfigError for a branch that is a label, or computed from one."""
    if branch in labels:
        raise ConfigError(f"{place}: {branch!r} is the label")
    leaked = manifest.files[0].preparation.made_of([branch]).intersection(labels)
    if leaked:
        raise ConfigError(f"{place}: {branch!r} is computed from the label, {min(leaked)!r}")


def _drops(
    features: tuple[ResolvedFeature, ...], inputs: dict[str, ResolvedInput]
) -> Iterable[Drop]:
    """The events to leave out. Raises ConfigError for a length that only the specs know."""
    for feature in (*features, *(f for given in inputs.values() for f in given.features)):
        if feature.missing == "drop":
            yield Drop(feature.branch.name)
    for feature in features:
        if feature.overflow == "drop" and feature.branch.kind == "jagged":
            yield Drop(feature.branch.name, _fixed(feature.branch.name, feature.length))
    for given in inputs.values():
        wanted = given.config
        if isinstance(wanted, SetInput):
            first = given.features[0]
            if (wanted.overflow or first.overflow) == "drop":
                length = first.length if wanted.length is None else wanted.length
                yield Drop(first.branch.name, _fixed(first.branch.name, length))


def _fixed(branch: str, length: float | str) -> int:
    if isinstance(length, str) or length < 1:
        raise ConfigError(
            f"{branch}: overflow: drop decides which events there are, before anything is known "
            f"about them: give a number of values as its length, not {length}"
        )
    return int(length)


def parse_selections(config: DatasetConfig, manifest: Manifest) -> tuple[Expression | None, ...]:
    """The selection of each sample, over the branches of its files.

    Raises ConfigError for one that cannot be read or names no branch, BranchError where a file
    lacks a branch or has one that cannot be read.
    """
    found: list[Expression | None] = []
    for number, sample in enumerate(config.samples):
        files = [file for file in manifest.files if file.sample == number]
        if sample.selection is None or not files:
            found.append(None)
            continue
        expression = parse(sample.selection, frozenset(files[0].schema))
        if not expression.names:
            raise ConfigError(f"selection {sample.selection!r} names no branch")
        for file in files:
            for name in sorted(expression.names):
                if not file.branch(name).readable:
                    raise BranchError(
                        f"a selection cannot read this, it is {file.branch(name).describe()}",
                        file=file.url, tree=file.tree, branch=name,
                    )  # fmt: skip
        found.append(expression)
    return tuple(found)


def manifest_branch(manifest: Manifest, config: DatasetConfig, name: str) -> Branch:
    """The branch in the first file whose sample uses it as label or weight."""
    for file in manifest.files:
        sample = config.samples[file.sample]
        if name in (sample.label, sample.weight.branch):
            return file.branch(name)
    return manifest.branch(name)


def _task(config: DatasetConfig, manifest: Manifest) -> Task | None:
    """The task of the config, else what the labels say; None without labels."""
    values = [sample.label for sample in config.samples]
    numbers = {value for value in values if isinstance(value, float)}
    if not config.labelled:
        return config.task
    if config.task:
        wish = {"binary": "0 or 1", "multiclass": "0, 1, 2, …", "regression": "a number"}
        for value in numbers if config.task != "regression" else ():
            if value < 0 or value % 1 or (config.task == "binary" and value > 1):
                raise ConfigError(
                    f"label {value:g} does not fit task {config.task}: it takes {wish[config.task]}"
                )
        return config.task
    if len(numbers) == len(set(values)):
        if numbers <= {0.0, 1.0}:
            return "binary"
        if numbers == set(map(float, range(len(numbers)))):
            return "multiclass"
        raise ConfigError(
            f"labels {sorted(numbers)} are neither 0 and 1 nor "
            f"0, 1, 2, …: set task: regression, or change them"
        )
    name = next(value for value in values if isinstance(value, str))
    branch = manifest_branch(manifest, config, name)
    if np.dtype(branch.dtype).kind == "b":
        return "binary"
    raise ConfigError(
        f"label branch {name!r} is {branch.describe()}: "
        f"set task to binary, multiclass or regression"
    )


def _unique(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))
