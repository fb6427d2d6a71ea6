"""From features and specs to the transform: lengths and scaling parameters as plain numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.features import ResolvedFeature
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform

EXACT_INTEGERS = 2**24
"""All integers up to here are float32 numbers (24 bits of significand)."""


def build_transform(features: tuple[ResolvedFeature, ...], specs: Specs) -> VectorTransform:
    """The transform of a dataset, in the order of its features."""
    return VectorTransform(
        features=tuple(
            feature_transform(feature, specs.branches[feature.branch.name]) for feature in features
        )
    )


def feature_transform(feature: ResolvedFeature, stats: BranchStatistics) -> FeatureTransform:
    """One feature with the statistics of its branch."""
    kind: Literal["flat", "array", "jagged"] = stats.kind
    _check_exact(feature, stats)
    width = {"flat": 1, "array": stats.size, "jagged": pad_length(feature, stats)}[kind]
    center, spread = location_and_spread(feature.scaling, stats)
    return FeatureTransform(
        branch=feature.branch.name,
        kind=kind,
        dtype=feature.branch.dtype,
        width=width,
        center=center,
        # a constant column keeps its distance from the constant, which is 0 in training
        factor=1.0 / spread if spread > 0 else 1.0,
        missing=missing_value(feature, stats),
        overflow=feature.overflow,
    )


def _check_exact(feature: ResolvedFeature, stats: BranchStatistics) -> None:
    """Raise ConfigError for unscaled integers that float32 does not tell apart."""
    if feature.scaling != "none" or np.dtype(feature.branch.dtype).kind not in "iu":
        return
    largest = max(abs(stats.minimum or 0), abs(stats.maximum or 0))
    if largest > EXACT_INTEGERS:
        raise ConfigError(
            f"feature {feature.branch.name!r} reaches {largest:.0f}, and float32 tells integers "
            f"apart only up to {EXACT_INTEGERS}: give it a scaling, or exclude it"
        )


def pad_length(feature: ResolvedFeature, stats: BranchStatistics) -> int:
    """Columns of a jagged branch, at least one."""
    if stats.lengths is None:
        return 1
    if feature.length == "max":
        return max(1, stats.lengths.max)
    if feature.length >= 1:
        return int(feature.length)
    return max(1, stats.lengths.quantile(feature.length))


def location_and_spread(
    scaling: Literal["minmax", "standard", "robust", "none"], stats: BranchStatistics
) -> tuple[float, float]:
    """What is subtracted and what is divided by; the spread of a constant column is 0.

    ``minmax``: minimum and range (paper, sect. 3.2). ``standard``: mean and standard deviation.
    ``robust``: median and half the distance of the 16 % and 84 % quantiles, one standard
    deviation of a normal distribution, or the standard deviation where these coincide.
    """
    if scaling == "none" or not stats.count or stats.minimum is None or stats.maximum is None:
        return 0.0, 1.0
    if scaling == "minmax":
        return float(stats.minimum), float(stats.maximum) - float(stats.minimum)
    # the rounding of the mean alone would make a constant column look spread
    std = stats.std if stats.maximum > stats.minimum else 0.0
    if scaling == "standard":
        return stats.mean, std
    half = (stats.quantile(0.84) - stats.quantile(0.16)) / 2
    return stats.quantile(0.5), half if half > 0 else std


def missing_value(feature: ResolvedFeature, stats: BranchStatistics) -> float | None:
    """The raw value that stands for NaN and infinity, or None where they are errors."""
    if feature.missing == "error":
        return None
    if feature.missing in ("mean", "median"):
        if not stats.count:
            raise ConfigError(
                f"feature {feature.branch.name!r} has no finite value in the training split, "
                f"so no {feature.missing}: give a number for 'missing' or exclude it"
            )
        return stats.mean if feature.missing == "mean" else stats.quantile(0.5)
    return float(feature.missing)
