"""The features of a dataset once its specs are known: which are of use, and which stand in the way.

``features: "*"`` means what can be used. A branch without a finite value in training is left out,
by name. Where values are missing somewhere in the data, the median of the training split fills
them, masked and counted, unless the config says otherwise. Listed features stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.feature_config import SetInput
from hepdata_adapters.common.config.problems import (
    FeatureError,
    SeveralFaultsError,
    told,
    yaml_line,
)
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.feature_choice import nothing_left
from hepdata_adapters.common.events.layout import Layout, ResolvedFeature
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.census import lowest_number
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.transform.scaling_parameters import pad_length


def settled(
    config: DatasetConfig,
    manifest: Manifest,
    layout: Layout,
    specs: Specs,
    used: Collection[str] = (),
) -> Layout:
    """The layout with the features that can be used. Raises ConfigError where none is left.

    used: branches that a trained model takes, whatever the specs say.
    """
    if config.features != "*":
        return layout
    excluded = dict(layout.excluded)
    chosen = []
    for feature in layout.features:
        name = feature.branch.name
        useless = why_useless(specs.branches[name])
        if useless is not None and name not in used:
            excluded[name] = useless
        elif config.defaults.missing is None and missing_in(specs, name):
            chosen.append(replace(feature, missing="median"))
        else:
            chosen.append(feature)
    if not chosen and not layout.inputs:
        raise nothing_left(manifest, excluded)
    return replace(layout, features=tuple(chosen), excluded=excluded)


def why_useless(stats: BranchStatistics) -> str | None:
    """Why a branch says nothing in training, None if it does."""
    if stats.count:
        return None
    return "no finite value in training" if stats.nan_share else "no values in training"


def missing_in(specs: Specs, branch: str) -> dict[str, int]:
    """Events with NaN or infinity in a branch, whatever their split, by the file."""
    found = {
        file.url: file.missing[branch] for file in specs.binding.files if branch in file.missing
    }
    if not found and specs.branches[branch].nan_share:  # specs of before files were asked
        found = {"the training split": 1}
    return found


def filled(config: DatasetConfig, layout: Layout, specs: Specs) -> dict[str, int]:
    """Features that are filled because the config says nothing, with the events that miss them."""
    if config.features != "*" or config.defaults.missing is not None:
        return {}
    names = [f.branch.name for f in layout.features if f.missing == "median"]
    return {name: sum(missing_in(specs, name).values()) for name in names}


def refuse(config: DatasetConfig, layout: Layout, specs: Specs) -> None:
    """Raise one ConfigError for all that is known to be refused of some event: its features, its
    class.
    """
    errors = [*_refused(layout, specs), *_classes_of_no_training_event(config, layout, specs)]
    if errors:
        raise told(SeveralFaultsError(errors), config)


def _refused(layout: Layout, specs: Specs) -> Iterator[FeatureError]:
    for feature in layout.features:
        yield from _of_feature(feature, specs, "features")
        longest = _longest(feature, specs)
        if feature.overflow == "error" and longest > pad_length(feature, _stats(feature, specs)):
            yield _too_long(feature, longest, "features")
    for name, given in layout.inputs.items():
        place = f"inputs.{name}"
        for feature in given.features:
            yield from _of_feature(feature, specs, place)
        wanted = given.config
        if isinstance(wanted, SetInput):
            first = given.features[0]
            sized = first if wanted.length is None else replace(first, length=wanted.length)
            longest = _longest(first, specs)
            if (wanted.overflow or first.overflow) == "error" and longest > pad_length(
                sized, _stats(first, specs)
            ):
                yield FeatureError(
                    first.branch.name, f"has up to {longest} objects in training: set "
                    f"{place}.overflow: truncate", place,
                )  # fmt: skip


def _classes_of_no_training_event(
    config: DatasetConfig, layout: Layout, specs: Specs
) -> Iterator[ConfigError]:
    """Events of which no model of this config has the class: they would fail after the training."""
    if layout.task not in ("binary", "multiclass") or not layout.labels:
        return
    numbers = [int(s.label) for s in config.samples if isinstance(s.label, float)]
    trained = [int(specs.branches[name].maximum or 0) for name in layout.labels]
    known, why = max([1, *numbers, *trained]), "no training event is of a class above"
    if layout.task == "binary":
        known, why = 1, "task: binary has no class above"
    for name in layout.labels:
        for split, classes in _classes(specs, name).items():
            above = [shown for shown, number in classes.items() if number > known]
            if above:
                yield ConfigError(
                    f"there are {split} events of class {', '.join(above)} in {name}, and {why} "
                    f"{known}: leave them out with {_cut(config, name, known)}"
                )


def _classes(specs: Specs, label: str) -> dict[SplitName, dict[str, int]]:
    """The classes that a label branch has in each split, with their numbers (at least)."""
    found: dict[SplitName, dict[str, int]] = {split: {} for split in SPLITS}
    for file in specs.binding.files:
        if file.label == label:
            for name, splits in file.census.items():
                number = lowest_number(name)
                if number is not None:
                    for split in splits:
                        found[split][name] = number
    return found


def _cut(config: DatasetConfig, label: str, known: int) -> str:
    """The selections that keep the classes up to ``known``."""
    cut = f"{label if label.isidentifier() else f'({label})'} <= {known}"
    return ", ".join(
        yaml_line({"selection": f"({s.selection}) & {cut}" if s.selection else cut}).strip("{}")
        + f" in sample {s.name}"
        for s in config.samples
        if s.label == label
    )


def _of_feature(feature: ResolvedFeature, specs: Specs, place: str) -> Iterator[FeatureError]:
    name = feature.branch.name
    files = missing_in(specs, name)
    if feature.missing != "error" or not files:
        return
    fill = "median" if specs.branches[name].count else 0
    shown = ", ".join(f"{events:,} in {url}" for url, events in list(files.items())[:2])
    more = f" and {len(files) - 2} more files" if len(files) > 2 else ""
    yield FeatureError(name, f"holds NaN or infinity ({shown}{more})", place, missing=fill)


def _too_long(feature: ResolvedFeature, longest: int, place: str) -> FeatureError:
    name = feature.branch.name
    return FeatureError(name, f"has up to {longest} values in training", place, overflow="truncate")


def _longest(feature: ResolvedFeature, specs: Specs) -> int:
    lengths = _stats(feature, specs).lengths
    return 0 if lengths is None else lengths.max


def _stats(feature: ResolvedFeature, specs: Specs) -> BranchStatistics:
    return specs.branches[feature.branch.name]
