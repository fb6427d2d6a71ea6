"""Weights of samples that are to add up to cross section times luminosity."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample, Weight
from hepdata_adapters.common.core.cache import Cache
from hepdata_adapters.common.core.errors import DataError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.writing import write_whole
from hepdata_adapters.common.events.targets import weights_of
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.source import Source


def scaled_to_cross_sections(
    config: DatasetConfig, manifest: Manifest, cache: Cache
) -> DatasetConfig:
    """The config with constants in place of cross sections and luminosities.

    A sample's weights become ``branch x constant x cross_section x luminosity / sum of branch``,
    the sum over all events of its files, of every split. Sums are kept in ``cache``.
    Raises DataError where a sum is not above zero.
    """
    samples = tuple(
        _normalised(sample, [f for f in manifest.files if f.sample == number], cache)
        if sample.weight.cross_section is not None
        else sample
        for number, sample in enumerate(config.samples)
    )
    return config.model_copy(update={"samples": samples})


def _normalised(sample: Sample, files: list[FileInfo], cache: Cache) -> Sample:
    weight = sample.weight
    total = _cached_sum(sample, files, cache)
    if not total > 0:
        raise DataError(
            f"the weights of sample {sample.name!r} add up to {total:g}: "
            f"they cannot be normalised to a cross section",
            branch=weight.branch,
        )
    expected = (weight.cross_section or 1.0) * (weight.luminosity or 1.0)
    constant = weight.constant * expected / total
    return sample.model_copy(update={"weight": Weight(branch=weight.branch, constant=constant)})


def _cached_sum(sample: Sample, files: list[FileInfo], cache: Cache) -> float:
    branch = sample.weight.branch
    if branch is None:
        return float(sum(file.entries for file in files))
    identity = digest([branch, Manifest(tuple(files)).here])
    name = f"weights-{identity[:16]}.json"
    # the cache is ours: a file that is damaged is made anew
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return float(json.loads(cache.path(name).read_bytes())[identity])
    total = sum(_sum_of(sample, file) for file in files)
    cache.keep(name, lambda path: write_whole(path, json.dumps({identity: total})))
    return total


def _sum_of(sample: Sample, file: FileInfo) -> float:
    plain = sample.model_copy(update={"weight": Weight(branch=sample.weight.branch)})
    total = 0.0
    with Source([plain.weight.branch or ""]) as source:
        for start, stop in zip(file.units[:-1].tolist(), file.units[1:].tolist(), strict=True):
            columns = source.read(file, start, stop)
            total += float(weights_of(plain, file, columns, np.arange(stop - start), start).sum())
    return total
