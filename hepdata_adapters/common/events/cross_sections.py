"""Weights of samples that are to add up to cross section times luminosity."""

from __future__ import annotations

import json
from contextlib import suppress

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample, Weight
from hepdata_adapters.common.core.cache import Cache
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.writing import write_whole
from hepdata_adapters.common.events.layout import Layout
from hepdata_adapters.common.events.unit_events import UnitEvents, read_units
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.source import Source


def scaled_to_cross_sections(
    config: DatasetConfig, manifest: Manifest, layout: Layout, cache: Cache
) -> DatasetConfig:
    """The config with constants in place of cross sections and luminosities.

    A sample's weights become ``branch x constant x cross_section x luminosity / sum of branch``,
    the sum over all events of its files, of every split. Sums are kept in ``cache``.
    Raises DataError where a sum is not above zero.
    """
    plain = tuple(
        sample.model_copy(update={"weight": Weight(branch=sample.weight.branch)})
        for sample in config.samples
    )
    unscaled = config.model_copy(update={"samples": plain})
    samples = []
    for number, sample in enumerate(config.samples):
        scaled = sample
        if sample.weight.cross_section is not None:
            files = [file for file in manifest.files if file.sample == number]
            total = _cached_sum(unscaled, layout, files, sample.weight.branch, cache)
            scaled = _normalised(sample, total)
        samples.append(scaled)
    return config.model_copy(update={"samples": tuple(samples)})


def _normalised(sample: Sample, total: float) -> Sample:
    weight = sample.weight
    if not total > 0:
        raise DataError(
            f"the weights of sample {sample.name!r} add up to {total:g}: "
            f"they cannot be normalised to a cross section",
            branch=weight.branch,
        )
    expected = (weight.cross_section or 1.0) * (weight.luminosity or 1.0)
    constant = weight.constant * expected / total
    return sample.model_copy(update={"weight": Weight(branch=weight.branch, constant=constant)})


def _cached_sum(
    unscaled: DatasetConfig, layout: Layout, files: list[FileInfo], branch: str | None, cache: Cache
) -> float:
    if branch is None:
        return float(sum(file.entries for file in files))
    identity = digest([branch, Manifest(tuple(files)).here])
    name = f"weights-{identity[:16]}.json"
    # the cache is ours: a file that is damaged is made anew
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return float(json.loads(cache.path(name).read_bytes())[identity])
    total = sum(_sum_of(unscaled, layout, file, branch) for file in files)
    cache.keep(name, lambda path: write_whole(path, json.dumps({identity: total})))
    return total


def _sum_of(unscaled: DatasetConfig, layout: Layout, file: FileInfo, branch: str) -> float:
    total = 0.0
    with Source([branch]) as source:
        for unit in read_units(source, file):
            total += float(UnitEvents(unit, unscaled, layout).weights.sum())
    return total
