"""The feature language: how the values of an event become what the model sees.

One definition for Python, YAML, training and serving. Objects are selected and sorted first, then
the derived columns are computed from them, then all of these are branches like those of the
files: for features, labels, weights, selections and splits.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from hepdata_adapters.common.core.frozen_model import FrozenModel

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=4000)]
Overflow = Literal["truncate", "error", "drop"]
COUNT = "count"
"""The channel of an image that counts its objects."""
MOST_COLUMNS = 1_000_000
"""Of a jagged branch."""
MOST_CELLS = 2**24
"""Of an image, all channels together."""
RESERVED = ("x", "mask", "lengths", "label", "weight", "event", "ragged", "counts")
"""Names in a batch that no input may take."""


def _whole(length: float) -> float:
    if length >= 1 and not length.is_integer():
        raise ValueError(f"{length} is neither a quantile below 1 nor a whole number")
    if length > MOST_COLUMNS:
        raise ValueError(
            f"at most {MOST_COLUMNS:,}, not {length:g}: every event gets so many columns"
        )
    return length


Length = Literal["max"] | Annotated[float, Field(gt=0), AfterValidator(_whole)]
Missing = Literal["error", "mean", "median", "drop"] | Finite


class ConstantScaling(FrozenModel):
    """``(value - center) / scale`` with the user's own numbers, in the units of the branch."""

    center: Finite = 0.0
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class FunctionScaling(FrozenModel):
    """A function of the user's, see `hepdata_adapters.scaling_function`.

    function: the name it was registered under, or ``module:function`` or ``file.py:function``.
    """

    function: str = Field(min_length=1)


NamedScaling = Literal["none", "minmax", "standard", "robust", "log", "log1p", "asinh", "quantile"]


def _kind_of_scaling(given: Any) -> str:
    if isinstance(given, FunctionScaling) or (isinstance(given, dict) and "function" in given):
        return "function-scaling"
    return "constant-scaling" if isinstance(given, dict | ConstantScaling) else "named-scaling"


Scaling = Annotated[
    Annotated[NamedScaling, Tag("named-scaling")]
    | Annotated[ConstantScaling, Tag("constant-scaling")]
    | Annotated[FunctionScaling, Tag("function-scaling")],
    Discriminator(_kind_of_scaling),
]
Clip = tuple[Finite | None, Finite | None]


def _interval(clip: Clip) -> Clip:
    low, high = clip
    if low is not None and high is not None and low >= high:
        raise ValueError(f"clip goes from low to high, not from {low:g} to {high:g}")
    return clip


def _open_ends(clip: Any) -> Any:
    """An infinite limit is none."""
    if not isinstance(clip, list | tuple):
        return clip
    ends = (-math.inf, math.inf)
    return (
        tuple(
            None if isinstance(limit, float) and limit == end else limit
            for limit, end in zip(clip, ends, strict=True)
        )
        if len(clip) == 2
        else clip
    )


class Feature(FrozenModel):
    """One branch, or one expression over branches, that the model sees.

    branch: the name of a branch (with ``*``: of several), or the name to give ``expression``.
    expression: see `hepdata_adapters.common.expressions`.
    scaling: how values are scaled, by statistics of the training split: ``minmax`` to 0…1,
    ``standard`` (mean, standard deviation), ``robust`` (median, half of 16-84 %), ``log``,
    ``log1p`` and ``asinh`` (the function first, then ``robust``), ``quantile`` (uniform in 0…1),
    ``{center: …, scale: …}``, ``{function: …}``.
    clip: ``[low, high]`` in the units of the branch, either may be null; clipped values are
    counted.
    length: columns of a jagged branch: ``"max"`` (the longest of the training events: longer ones
    elsewhere are cut to it and counted, see ``overflow``), a quantile below 1 of the length, or a
    count.
    missing: what replaces NaN and infinity (``mean`` or ``median`` of the training split, or a
    raw value); the mask is then false. ``error`` refuses them, ``drop`` leaves out the event.
    indicator: one more column (per value), 1 where a value was missing, else 0.
    overflow: longer events are truncated to the first ``length`` values, an error, or left out.
    """

    branch: str
    expression: Text | None = None
    scaling: Scaling | None = None
    clip: Annotated[Clip, BeforeValidator(_open_ends), AfterValidator(_interval)] | None = None
    length: Length | None = None
    missing: Missing | None = None
    indicator: bool = False
    overflow: Overflow | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Feature:
        if self.expression is not None and not self.branch.isidentifier():
            raise ValueError(f"an expression needs a plain name, not {self.branch!r}")
        return self


class FeatureDefaults(FrozenModel):
    """What a feature gets where it says nothing itself. pad: of the scaled columns.

    missing: by default ``error``; for ``features: "*"``, the median in the branches in which
    values are missing somewhere in the data, which are named and counted.
    """

    scaling: NamedScaling = "standard"
    length: Length = 0.99
    missing: Missing | None = None
    overflow: Overflow = "truncate"
    pad: Finite = 0.0


class Objects(FrozenModel):
    """Jagged branches that share a count, such as ``Jet_*``: which objects stay, in what order.

    branches: patterns; by default ``NAME_*`` and ``NAME.*``, all jagged ones.
    selection: a cut on the objects, such as ``Jet_pt > 30 & abs(Jet_eta) < 2.4``.
    sort_by: a branch or expression; objects of NaN come last, equal ones keep their order.
    """

    branches: tuple[str, ...] = ()
    selection: Text | None = None
    sort_by: Text | None = None
    order: Literal["descending", "ascending"] = "descending"

    @field_validator("branches", mode="before")
    @classmethod
    def _listed(cls, branches: Any) -> Any:
        return (branches,) if isinstance(branches, str) else branches


class _FeatureInput(FrozenModel):
    features: tuple[Feature, ...] = Field(min_length=1)

    @field_validator("features", mode="before")
    @classmethod
    def _features(cls, features: Any) -> Any:
        if isinstance(features, str):
            features = (features,)
        if isinstance(features, list | tuple):
            return tuple({"branch": f} if isinstance(f, str) else f for f in features)
        return features


class SetInput(_FeatureInput):
    """Objects as ``(n, k, f)`` with a mask ``(n, k)``: what transformers and deep sets take.

    features: jagged branches that share a count. length, overflow: of the objects, k.
    """

    kind: Literal["set"]
    length: Length | None = None
    overflow: Overflow | None = None
    dtype: Literal["float32", "float64", "int64"] = "float32"

    @model_validator(mode="after")
    def _one_length(self) -> SetInput:
        for feature in self.features:
            if feature.length is not None or feature.overflow is not None:
                raise ValueError(f"{feature.branch}: length and overflow belong to the set")
            if feature.indicator:
                raise ValueError(
                    f"{feature.branch}: an indicator is a feature of its own here: "
                    f"expression: isfinite({feature.branch})"
                )
        return self


class RaggedInput(_FeatureInput):
    """Objects as values ``(sum of lengths, f)`` and offsets ``(n + 1,)``, nothing padded or cut."""

    kind: Literal["ragged"]
    dtype: Literal["float32", "float64", "int64"] = "float32"


class ImageAxis(FrozenModel):
    """One axis of an image: a jagged branch in bins.

    edges: all of them, or ``bins`` of equal width over ``range`` (by default the minimum and
    maximum of the training split). periodic: values are taken modulo the range, as of phi.
    """

    branch: str
    bins: int | None = Field(default=None, ge=1, le=4096)
    range: tuple[Finite, Finite] | None = None
    edges: tuple[Finite, ...] | None = Field(default=None, min_length=2, max_length=4097)
    periodic: bool = False

    @model_validator(mode="after")
    def _bins(self) -> ImageAxis:
        if (self.edges is None) == (self.bins is None):
            raise ValueError(f"{self.branch}: give either edges, or bins (and range)")
        if self.edges is not None and self.range is not None:
            raise ValueError(f"{self.branch}: edges are the range")
        edges = self.edges or self.range or ()
        if any(low >= high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"{self.branch}: edges and range go upwards")
        return self


class ImageInput(FrozenModel):
    """The paper's matrix: a histogram of the objects of each event, ``(n, c, bins…)`` float32.

    axes: of branches with one count. channels: branches (also derived ones) that weight the
    objects, ``count`` for their number; objects in one cell add up, and are counted. center:
    ``leading`` moves the first object (see `Objects`) to 0. outside: objects beyond the edges are
    counted, or an error. channels_last: ``(n, bins…, c)``, as TensorFlow takes images. sparse:
    only the cells that are not 0, as coordinates and values.
    """

    kind: Literal["image"]
    axes: tuple[ImageAxis, ...] = Field(min_length=1, max_length=4)
    channels: tuple[str, ...] = Field(default=(COUNT,), min_length=1, max_length=64)
    center: Literal["none", "leading"] = "none"
    outside: Literal["count", "error"] = "count"
    channels_last: bool = False
    sparse: bool = False

    @model_validator(mode="after")
    def _cells(self) -> ImageInput:
        bins = (axis.bins or len(axis.edges or ()) - 1 for axis in self.axes)
        cells = len(self.channels) * math.prod(bins)
        if cells > MOST_CELLS and not self.sparse:
            raise ValueError(
                f"{cells:,} cells in each event, at most {MOST_CELLS:,}: use fewer bins, or sparse"
            )
        return self

    @field_validator("channels", mode="before")
    @classmethod
    def _listed(cls, channels: Any) -> Any:
        return (channels,) if isinstance(channels, str) else channels


Input = Annotated[SetInput | RaggedInput | ImageInput, Field(discriminator="kind")]
