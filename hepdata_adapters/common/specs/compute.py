"""The specs pass: read everything once, keep statistics of the training split."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from hepdata_adapters.common.columns import take
from hepdata_adapters.common.config import DatasetConfig
from hepdata_adapters.common.errors import DataError, SpecsError
from hepdata_adapters.common.features import Layout, manifest_branch, resolve
from hepdata_adapters.common.manifest import FileInfo, Manifest, build_manifest
from hepdata_adapters.common.membership import deciding_branches, member_codes
from hepdata_adapters.common.schema import Branch
from hepdata_adapters.common.source import Source
from hepdata_adapters.common.specs.model import Binding, Specs
from hepdata_adapters.common.specs.statistics import BranchStatistics, summarize
from hepdata_adapters.common.split import SPLITS, SplitName

_MORE_TRAINING = {
    "fractions": "raise split.train or change split.seed",
    "folds": "raise split.folds or change split.seed",
    "branch": "give split.values.train values that the branch has",
    "files": "leave files over for it in split.files",
}

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""


def compute_specs(config: DatasetConfig, progress: Progress | None = None) -> Specs:
    """One pass over all files of a config.

    Raises the errors of the manifest and of reading, and DataError if the training split is
    empty.
    """
    manifest = build_manifest(config.samples)
    return specs_of(config, manifest, resolve(config, manifest), progress)


def specs_of(
    config: DatasetConfig, manifest: Manifest, layout: Layout, progress: Progress | None = None
) -> Specs:
    """`compute_specs` for a manifest that is there already."""
    binding = binding_of(config, manifest, layout)
    statistics: dict[str, BranchStatistics] = {}
    records = []
    done = 0
    for number, file in enumerate(manifest.files):
        branches = file_branches(config, manifest, layout, file)
        names = [branch.name for branch in branches]
        deciding = deciding_branches(layout, file.sample)
        with Source([*dict.fromkeys([*names, *deciding])]) as source:
            counts = np.zeros((len(file.units) - 1, len(SPLITS)), np.int64)
            for unit in range(len(counts)):
                start, stop = int(file.units[unit]), int(file.units[unit + 1])
                columns = source.read(file, start, stop)
                codes = member_codes(config.split, layout, file, start, stop, columns)
                counts[unit] = np.bincount(codes[codes >= 0], minlength=len(SPLITS))
                rows = np.flatnonzero(codes == 0)
                for branch in branches:
                    part = summarize(branch, take(columns[branch.name], rows))
                    known = statistics.get(branch.name)
                    statistics[branch.name] = known.merge(part) if known else part
                done += stop - start
                if progress:
                    progress(done, manifest.entries)
        per_split: dict[SplitName, tuple[int, ...]] = {
            name: tuple(counts[:, code].tolist()) for code, name in enumerate(SPLITS)
        }
        records.append(binding.files[number].model_copy(update={"counts": per_split}))
    binding = binding.model_copy(update={"files": tuple(records)})
    specs = Specs(hash=binding.hash(), binding=binding, branches=statistics)
    if specs.events("train") == 0:
        raise DataError(
            f"the training split is empty ({specs.summary()}): {_MORE_TRAINING[config.split.way]}"
        )
    return specs


def binding_of(config: DatasetConfig, manifest: Manifest, layout: Layout) -> Binding:
    """What specs of this dataset belong to."""
    selections = [sample.selection for sample in config.samples]
    return Binding.of(manifest, config.split, layout.identity, layout.statistics, selections)


def file_branches(
    config: DatasetConfig, manifest: Manifest, layout: Layout, file: FileInfo
) -> list[Branch]:
    """The branches to summarise in one file: features, and the label and weight it uses."""
    sample = config.samples[file.sample]
    own = {name for name in (sample.label, sample.weight.branch) if isinstance(name, str)}
    features = {feature.branch.name for feature in layout.features}
    return [
        file.branch(name) if name in features else manifest_branch(manifest, config, name)
        for name in layout.statistics
        if name in features or name in own
    ]


def cached_specs(
    config: DatasetConfig,
    manifest: Manifest,
    layout: Layout,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Specs:
    """The specs of a config: from ``config.specs`` if given, else from the cache, else made now.

    The cache file is named by the hash of the data, so it cannot go stale.
    Raises SpecsError if ``config.specs`` belongs to other data.
    """
    wanted = binding_of(config, manifest, layout)
    if config.specs:
        specs = Specs.load(config.specs)
        specs.verify(wanted, f"specs {config.specs}")
        return specs
    path = (folder or cache_folder()) / f"specs-{wanted.hash()[:16]}.json"
    # the cache is ours: a file that is damaged or of another version is made anew, not used
    with suppress(SpecsError):
        specs = Specs.load(path)
        specs.verify(wanted, f"specs {path}")
        return specs
    specs = specs_of(config, manifest, layout, progress)
    specs.save(path)
    return specs


def cache_folder() -> Path:
    """Where specs are kept between runs; ``HEPDATA_CACHE`` moves it."""
    if "HEPDATA_CACHE" in os.environ:
        return Path(os.environ["HEPDATA_CACHE"])
    import platformdirs

    return Path(platformdirs.user_cache_dir("hepdata-adapters"))
