"""From what a config asks for and what the specs learnt to the transform of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from hepdata_adapters.common.config.feature_config import COUNT, ImageInput, RaggedInput, SetInput
from hepdata_adapters.common.config.problems import FeatureError, SeveralFaultsError, each
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.layout import Layout, ResolvedFeature, ResolvedInput
from hepdata_adapters.common.files.derived_columns import common_preparation
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform, image_edges
from hepdata_adapters.common.transform.pipeline import InputTransform, Transform
from hepdata_adapters.common.transform.ragged import RaggedTransform
from hepdata_adapters.common.transform.scaling_parameters import (
    build_transform,
    pad_length,
    value_scaling,
)
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.common.transform.vector import VectorTransform


def assemble(layout: Layout, manifest: Manifest, specs: Specs) -> Transform:
    """The transform of a dataset.

    Raises ConfigError naming all features and inputs that do not fit what the specs say.
    """
    makers: list[Callable[[], VectorTransform | InputTransform]] = [
        partial(_input, name, given, specs) for name, given in layout.inputs.items()
    ]
    if layout.features:
        makers.insert(0, partial(build_transform, layout.features, specs))
    made = each(lambda make: make(), makers)
    vector = made[0] if isinstance(made[0], VectorTransform) else None
    inputs = [one for one in made if not isinstance(one, VectorTransform)]
    return Transform(
        preparation=common_preparation(manifest, layout.columns),
        vector=vector,
        inputs=dict(zip(layout.inputs, inputs, strict=True)),
    )


def _input(name: str, given: ResolvedInput, specs: Specs) -> InputTransform:
    wanted, place = given.config, f"inputs.{name}"
    try:
        maker = _MAKERS.get(type(wanted))
        if maker is None:
            raise ConfigError(f"{type(wanted).__name__} is no representation")
        return maker(wanted, given.features, specs)
    except FeatureError as error:
        raise error.at(place) from None
    except SeveralFaultsError as error:
        inner = [e.at(place) if isinstance(e, FeatureError) else e for e in error.errors]
        raise SeveralFaultsError(inner) from None
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{place}: {error}") from None


def _set(wanted: SetInput, features: tuple[ResolvedFeature, ...], specs: Specs) -> SetTransform:
    first = features[0]
    sized = first if wanted.length is None else _with_length(first, wanted.length)
    length = pad_length(sized, specs.branches[first.branch.name])
    overflow = wanted.overflow or first.overflow
    return SetTransform(
        features=each(
            lambda feature: value_scaling(feature, specs.branches[feature.branch.name]),
            features,
        ),
        length=length,
        overflow=_served(overflow),
        dtype=wanted.dtype,
        pad=first.pad,
    )


def _ragged(
    wanted: RaggedInput, features: tuple[ResolvedFeature, ...], specs: Specs
) -> RaggedTransform:
    return RaggedTransform(
        features=each(
            lambda feature: value_scaling(feature, specs.branches[feature.branch.name]),
            features,
        ),
        dtype=wanted.dtype,
    )


def _image(wanted: ImageInput, _: object, specs: Specs) -> ImageTransform:
    bins = []
    for axis in wanted.axes:
        stats = specs.branches[axis.branch]
        edges = image_edges(axis, stats.minimum, stats.maximum)
        bins.append(ImageBins(branch=axis.branch, edges=edges, periodic=axis.periodic))
    return ImageTransform(
        axes=tuple(bins),
        channels=tuple(None if channel == COUNT else channel for channel in wanted.channels),
        center=wanted.center,
        outside=wanted.outside,
        channels_last=wanted.channels_last,
        sparse=wanted.sparse,
    )


_MAKERS: dict[type, Callable[[Any, tuple[ResolvedFeature, ...], Specs], InputTransform]] = {
    SetInput: _set, RaggedInput: _ragged, ImageInput: _image,
}  # fmt: skip


def _with_length(feature: ResolvedFeature, length: float | Literal["max"]) -> ResolvedFeature:
    return replace(feature, length=length)


def _served(overflow: Literal["truncate", "error", "drop"]) -> Literal["truncate", "error"]:
    """What an overlong event gets: those that training leaves out are refused when served."""
    return "error" if overflow == "drop" else overflow
