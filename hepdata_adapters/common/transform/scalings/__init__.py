"""Scalings: each is a file with its function, written once for all backends, and its fit.

To add one: a file here, its place in `FITS` (and in `FUNCTIONS` if it has one), and its name in
``NamedScaling`` of `hepdata_adapters.common.config.feature_config`.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from hepdata_adapters.common.core.errors import nearest
from hepdata_adapters.common.transform.scalings import affine
from hepdata_adapters.common.transform.scalings.asinh import Asinh, asinh
from hepdata_adapters.common.transform.scalings.function import Function, Scaled, TrainingValues
from hepdata_adapters.common.transform.scalings.logarithm import Log, Log1p, log, log1p
from hepdata_adapters.common.transform.scalings.quantile import Quantile, quantile
from hepdata_adapters.common.transform.scalings.registered import Registered

__all__ = [
    "FITS",
    "FUNCTIONS",
    "Asinh",
    "Log",
    "Log1p",
    "Quantile",
    "Registered",
    "ScalingFunction",
]

FUNCTIONS: Mapping[str, type[Function]] = {
    "log": Log,
    "log1p": Log1p,
    "asinh": Asinh,
    "quantile": Quantile,
    "registered": Registered,
}
"""By their kind, as archives hold them."""


def _of_its_kind(given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    kind = str(given.get("kind"))
    if kind not in FUNCTIONS:
        raise ValueError(f"no function of a scaling is of kind {kind!r}{nearest(kind, FUNCTIONS)}")
    return FUNCTIONS[kind].model_validate(given)


ScalingFunction = Annotated[SerializeAsAny[Function], BeforeValidator(_of_its_kind)]

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
