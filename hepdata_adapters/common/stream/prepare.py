"""What users may pass as samples, in every framework: paths, labels, configs, YAML files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepdata_adapters.common.config.config_file import load_config, validated
from hepdata_adapters.common.config.counts import MOST_EVENTS
from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.progress import progress_bar
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.kept_units import kept_line
from hepdata_adapters.common.stream.memory import WORTH_TELLING, buffer_of
from hepdata_adapters.common.transform.scaling_parameters import notes
from hepdata_adapters.common.transform.usable_features import filled

NAMED = 30
"""Names in a line; all of them are in the ledger."""
Samples = (
    str | Path | Sequence[str | Path | Sample] | Mapping[str, float | str] | Sample | DatasetConfig
)


def prepare(
    samples: Samples | Dataset,
    options: Mapping[str, Any],
    specs: Specs | str | Path | None = None,
    *,
    progress: bool = True,
) -> Dataset:
    """Scan the files of the samples and find or make their specs, with a progress bar.

    options: keys of `DatasetConfig` that go beside the samples. A `Dataset` is taken as it is.
    Raises ConfigError, DataError or SpecsError.
    """
    if isinstance(samples, Dataset):
        if options or specs:
            given = ", ".join([*options, *(["specs"] if specs else [])])
            raise ConfigError(f"a prepared dataset is complete: it takes no {given}")
        return samples
    config, folder = as_config(samples, options)
    if isinstance(specs, str | Path):
        config, specs = config.model_copy(update={"specs": str(specs)}), None
    computed = False
    with progress_bar("computing specs", shown=progress) as report:

        def noted(done: int, total: int) -> None:
            nonlocal computed
            computed = True
            report(done, total)

        prepared = Dataset.prepare(config, specs, folder, noted)
    if computed and progress:  # on first use only: train, validation and test say it once
        print("\n".join(describe(prepared)), file=sys.stderr)
    return prepared


def describe(prepared: Dataset, shown: int = 8) -> list[str]:
    """What was chosen, a line each: events, features, exclusions, constant branches."""
    lines = [
        f"{prepared.specs.summary()}; {_shapes(prepared)}, task "
        f"{prepared.layout.task or 'none (no labels)'}"
    ]
    lines.append(f"  features: {few(prepared.layout.columns, NAMED)}")
    lines += [f"  {line}" for line in left_out(prepared.layout.excluded, NAMED)]
    lines += [f"  {line}" for line in filled_lines(prepared, NAMED)]
    branches = prepared.specs.branches
    useless = [
        note
        for feature in prepared.layout.all_features
        for note in notes(feature, branches[feature.branch.name])
    ]
    if useless:
        more = f" and {len(useless) - shown} more" if len(useless) > shown else ""
        lines.append(f"  of no use: {', '.join(useless[:shown])}{more}")
    lines += [
        f"  an epoch of training has {share.delivered:,} events of class {number} (there are "
        f"{share.events:,}), with weights that add up to {share.weight:g}"
        for number, share in prepared.class_balance.items()
    ]
    lines += [f"  NOTE: {note.text}" for note in prepared.remarks]
    buffer = buffer_of(prepared.transform, prepared.config.sampling, prepared.specs)
    if buffer.nbytes > WORTH_TELLING:
        lines.append(f"  {buffer}")
    if kept := kept_line(prepared.config.reading):
        lines.append(f"  {kept}")
    lines += [f"  no events in {file.url}:{file.tree}" for file in prepared.manifest.empty]
    lines += [f"  read {name}: {found}" for name, found in _namesakes(prepared).items()]
    return lines


def left_out(excluded: Mapping[str, str], most: int) -> list[str]:
    """A line for each reason for which branches are left out; ``most`` names in each.

    >>> left_out({"a": "label", "b": "excluded by the config", "c": "excluded by the config"}, 9)
    ['excluded a: label', 'excluded b, c: excluded by the config']
    """
    reasons = dict.fromkeys(excluded.values())
    names = {why: [name for name, other in excluded.items() if other == why] for why in reasons}
    return [f"excluded {few(names[reason], most)}: {reason}" for reason in reasons]


def filled_lines(prepared: Dataset, most: int) -> list[str]:
    """A line on the features whose missing values are filled though the config says nothing."""
    found = filled(prepared.config, prepared.layout, prepared.specs)
    if not found:
        return []
    shown = few([f"{name} ({events:,})" for name, events in found.items()], most)
    return [f"NaN and infinity are filled with the median of training (events): {shown}"]


def few(names: Sequence[str], most: int) -> str:
    """Names in a line, the last ones counted.

    >>> few(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _namesakes(prepared: Dataset) -> dict[str, str]:
    """The branches in use that are not alone in having their name."""
    return {
        name: found.describe()
        for file in prepared.manifest.files
        for name in file.preparation.needs(prepared.layout.branches)
        if (found := file.schema.get(name)) and found.namesakes > 1
    }


def tell_split(prepared: Dataset, split: SplitName | None) -> None:
    """Say on standard error that all events are delivered, where one would train on a part."""
    held = sum(prepared.events(name) for name in SPLITS if name != "train")
    if split is None and prepared.layout.task and held:
        print(
            f"all {prepared.events(None):,} events are delivered, with the {held:,} of validation "
            f"and test; to train, say split='train'",
            file=sys.stderr,
        )


def _shapes(prepared: Dataset) -> str:
    """What the model sees of an event, in words."""
    transform = prepared.transform
    parts = []
    if transform.vector:
        parts.append(f"{len(transform.features)} branches → {transform.num_features} columns")
    for name, given in prepared.layout.inputs.items():
        values = transform.empty.get(name)
        size = "sparse" if values is None else " × ".join(map(str, _event_shape(values)))
        parts.append(f"{given.config.kind} {name} ({size})")
    return ", ".join(parts)


def _event_shape(values: Column) -> tuple[int | str, ...]:
    if isinstance(values, Jagged):
        return ("n", *values.content.shape[1:])
    return values.shape[1:]


def as_config(samples: Samples, options: Mapping[str, Any]) -> tuple[DatasetConfig, Path | None]:
    """The config that the first argument of a dataset stands for, and its cache folder.

    A YAML file has its cache beside it, all else the user's cache folder (None). ``split_by`` is
    the config's ``split``: how events are split, where ``split`` says which part is wanted.
    Raises ConfigError for an unknown option.
    """
    folder: Path | None = None
    if isinstance(samples, str | Path) and Path(samples).suffix in (".yaml", ".yml"):
        folder = Path(samples).resolve().parent / ".hepdata"
        samples = load_config(samples)
    if isinstance(samples, DatasetConfig):
        document: dict[str, Any] = samples.model_dump()
        kind = type(samples)
    else:
        document, kind = {"samples": _listed(samples)}, DatasetConfig
    options = dict(options)
    if "split_by" in options:  # ``split`` is the name of a split there
        options["split"] = options.pop("split_by")
    return validated(kind, document | options, "arguments"), folder


def check_batch_size(size: object) -> None:
    """Raise ConfigError for a batch size that is neither None nor a whole number from 1."""
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ConfigError(f"batch_size is a whole number from 1, or None, not {size!r}")
    if size is not None and size > MOST_EVENTS:
        raise ConfigError(f"batch_size is at most {MOST_EVENTS:,}: a batch is held in memory")


def environment_ranks() -> tuple[int, int]:
    """(rank, world size) as launchers such as torchrun set them, else one rank."""
    return _environment("RANK", 0), _environment("WORLD_SIZE", 1)


def _environment(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"the environment has {name}={text!r}, which is no number")
    return int(text)


def _listed(samples: Any) -> list[Any]:
    if isinstance(samples, Mapping):
        return [{"files": path, "label": label} for path, label in samples.items()]
    if isinstance(samples, str | Path):
        return [{"files": samples}]
    if isinstance(samples, Sample):
        return [samples.model_dump()]
    if not isinstance(samples, Sequence):
        raise ConfigError(
            f"samples are a path, a list of paths or Samples, a dict of path to label, a "
            f"DatasetConfig or a YAML file, not {type(samples).__name__}"
        )
    if samples and all(isinstance(sample, Sample) for sample in samples):
        return [sample.model_dump() for sample in samples]
    return [{"files": list(samples)}]
