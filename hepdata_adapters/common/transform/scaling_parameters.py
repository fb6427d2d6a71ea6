"""From features and specs to the transform: lengths and scaling parameters as plain numbers.

Statistics are of raw values, before any clip. The minimum, the maximum and quantiles go through
a clip and through a growing function as values do, so those of ``minmax``, ``robust``, ``log``,
``log1p``, ``asinh`` and ``quantile`` are those of the clipped values. Mean and standard deviation
do not: ``standard`` scales by those of the values without the clip.
"""

from __future__ import annotations

from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hepdata_adapters.common.config.feature_config import Clip, ConstantScaling, FunctionScaling
from hepdata_adapters.common.config.problems import FeatureError, each
from hepdata_adapters.common.events.layout import ResolvedFeature
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.statistics import BranchStatistics
from hepdata_adapters.common.transform.scaling import ValueScaling
from hepdata_adapters.common.transform.scalings import FITS, Quantile
from hepdata_adapters.common.transform.scalings.function import Function, Scaled, factor_of
from hepdata_adapters.common.transform.scalings.registered import user_function
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

EXACT_INTEGERS = 2**24
"""All integers up to here are float32 numbers (24 bits of significand)."""


def build_transform(features: tuple[ResolvedFeature, ...], specs: Specs) -> VectorTransform:
    """The transform of a dataset, in the order of its features."""
    return VectorTransform(
        features=each(
            lambda feature: feature_transform(feature, specs.branches[feature.branch.name]),
            features,
        )
    )


def feature_transform(feature: ResolvedFeature, stats: BranchStatistics) -> FeatureTransform:
    """One feature of the vector with the statistics of its branch. Raises as `value_scaling`."""
    kind: Literal["flat", "array", "jagged"] = stats.kind
    scaling = value_scaling(feature, stats)
    return FeatureTransform(
        **{name: getattr(scaling, name) for name in ValueScaling.model_fields},
        kind=kind,
        width={"flat": 1, "array": stats.size, "jagged": pad_length(feature, stats)}[kind],
        indicator=feature.indicator,
        # events that are left out of training never come here, so a server refuses them
        overflow="truncate" if feature.overflow == "truncate" else "error",
        pad=feature.pad,
    )


def value_scaling(feature: ResolvedFeature, stats: BranchStatistics) -> ValueScaling:
    """The scaling of a feature with the statistics of its branch.

    Raises FeatureError where the two do not fit: logarithms of values that have none, a fill
    value outside of the domain, integers that float32 does not tell apart.
    """
    name = feature.branch.name
    scaled = scaling_of(feature, stats)
    _check_exact(feature, stats)
    clip = feature.clip
    if isinstance(scaled.function, Quantile):
        # what lies beyond the training values is clipped, and so counted
        clip = (scaled.function.knots[0], scaled.function.knots[-1])
    try:
        return ValueScaling(
            branch=name,
            dtype=feature.branch.dtype,
            function=scaled.function,
            center=scaled.center,
            factor=scaled.factor,
            clip=clip,
            missing=missing_value(feature, stats),
        )
    except ValidationError as error:
        reasons = "; ".join(found["msg"] for found in error.errors())
        raise FeatureError(name, f"cannot be scaled: {reasons}") from error


def scaling_of(feature: ResolvedFeature, stats: BranchStatistics) -> Scaled:
    """Function, center and factor of a feature: a named scaling is fitted, others are as given.

    A column without any value stays as it is.
    """
    scaling = feature.scaling
    if isinstance(scaling, ConstantScaling):
        return Scaled(None, scaling.center, factor_of(scaling.scale))
    if isinstance(scaling, FunctionScaling):
        return Scaled(user_function(scaling.function))
    return FITS[scaling](_Training(feature, stats)) if stats.count else Scaled()


class _Training:
    """`TrainingValues` of a feature, from the statistics of its branch."""

    def __init__(self, feature: ResolvedFeature, stats: BranchStatistics) -> None:
        self._branch, self._clip, self._stats = feature.branch.name, feature.clip, stats
        self.mean, self.std = stats.mean, stats.std

    def range(self) -> tuple[float, float]:
        return _range(self._clip, self._stats)

    def quantiles(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        stats = self._stats
        low, high = _range(None, stats)
        # the sketch interpolates, so that rounding may lead out of the range
        inner = np.clip([stats.quantile(level) for level in levels[1:-1]], low, high)
        values = np.concatenate(([low], np.maximum.accumulate(inner), [high]))
        return _clipped(values, self._clip)

    def location_and_spread(self, function: Function | None = None) -> tuple[float, float]:
        """Where the quantiles coincide, the spread is the standard deviation, 0 of a constant."""
        stats, clip = self._stats, self._clip
        values = np.array([stats.quantile(q) for q in (0.16, 0.5, 0.84)])
        values = _clipped(np.clip(values, *_range(None, stats)), clip)
        bounds = np.array(self.range())
        if function is not None:
            values, bounds = function(values), function(bounds)
        half = float(values[2] - values[0]) / 2
        if half > 0 or bounds[0] == bounds[1]:
            return float(values[1]), max(half, 0.0)
        if function is None and clip is None:
            return float(values[1]), stats.std
        return float(values[1]), _sketched_std(clip, stats, function)

    def refuse(self, reason: str, **settles: str) -> NoReturn:
        raise FeatureError(self._branch, reason, **settles)


def notes(feature: ResolvedFeature, stats: BranchStatistics) -> list[str]:
    """What people should know of a feature's values in training.

    One line each for a column without values, a constant one, and one that a clip makes so.
    """
    name = feature.branch.name
    if not stats.count:
        return [f"{name} has no values in training"]
    low, high = _range(None, stats)
    if low == high:
        return [f"{name} is constant ({low:g})"]
    low, high = _range(feature.clip, stats)
    return [f"{name} is constant once clipped ({low:g})"] if low == high else []


def pad_length(feature: ResolvedFeature, stats: BranchStatistics) -> int:
    """Columns of a jagged branch, at least one."""
    if stats.lengths is None:
        return 1
    if feature.length == "max":
        return max(1, stats.lengths.max)
    if feature.length >= 1:
        return int(feature.length)
    return max(1, stats.lengths.quantile(feature.length))


def missing_value(feature: ResolvedFeature, stats: BranchStatistics) -> float | None:
    """The raw value that stands for NaN and infinity, or None where they are errors.

    The mean and the median are clipped as values are, a number stays as it is.
    """
    if feature.missing in ("error", "drop"):
        return None
    if feature.missing in ("mean", "median"):
        if not stats.count:
            raise FeatureError(
                feature.branch.name,
                f"has no finite value in the training split, so no {feature.missing}: give a "
                f"number for 'missing' or leave it out",
                missing=0,
            )
        value = stats.mean if feature.missing == "mean" else stats.quantile(0.5)
        return float(_clipped(np.array([value]), feature.clip)[0])
    return float(feature.missing)


def _check_exact(feature: ResolvedFeature, stats: BranchStatistics) -> None:
    """Raise FeatureError for unscaled integers that float32 does not tell apart."""
    if feature.scaling != "none" or np.dtype(feature.branch.dtype).kind not in "iu":
        return
    largest = max(abs(value) for value in _range(feature.clip, stats))
    if largest > EXACT_INTEGERS:
        raise FeatureError(
            feature.branch.name,
            f"reaches {largest:.0f}, and float32 tells integers apart only up to "
            f"{EXACT_INTEGERS}: give it a scaling, or leave it out",
            scaling="standard",
        )


def _range(clip: Clip | None, stats: BranchStatistics) -> tuple[float, float]:
    """The lowest and highest value of training, once clipped; 0 for a column without values."""
    limits = _clipped(np.array([stats.minimum or 0, stats.maximum or 0], np.float64), clip)
    return float(limits[0]), float(limits[1])


def _sketched_std(clip: Clip | None, stats: BranchStatistics, function: Function | None) -> float:
    """Standard deviation of the clipped values of a function, from the centroids of the sketch."""
    means, weights = np.array(stats.sketch).T
    means = _clipped(np.clip(means, *_range(None, stats)), clip)
    values = means if function is None else function(means)
    mean = np.average(values, weights=weights)
    return float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))


def _clipped(values: NDArray[np.float64], clip: Clip | None) -> NDArray[np.float64]:
    low, high = clip or (None, None)
    return values if low is None and high is None else np.clip(values, low, high)
