"""Scalings: each is a file with its function, written once for all backends, and its fit.

To add one: a file here, its place in `FITS` (and in `ScalingFunction` if it has a function), and
its name in ``NamedScaling`` of `hepdata_adapters.common.config.feature_config`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field

from hepdata_adapters.common.transform.scalings import affine
from hepdata_adapters.common.transform.scalings.asinh import Asinh, asinh
from hepdata_adapters.common.transform.scalings.function import Scaled, TrainingValues
from hepdata_adapters.common.transform.scalings.logarithm import Log, Log1p, log, log1p
from hepdata_adapters.common.transform.scalings.quantile import Quantile, quantile
from hepdata_adapters.common.transform.scalings.registered import Registered

__all__ = ["FITS", "Asinh", "Log", "Log1p", "Quantile", "Registered", "ScalingFunction"]

ScalingFunction = Annotated[
    Log | Log1p | Asinh | Quantile | Registered, Field(discriminator="kind")
]

FITS: Mapping[str, Callable[[TrainingValues], Scaled]] = {
    "none": affine.none,
    "minmax": affine.minmax,
    "standard": affine.standard,
    "robust": affine.robust,
    "log": log,
    "log1p": log1p,
    "asinh": asinh,
    "quantile": quantile,
}
"""By the name that configs give them."""
