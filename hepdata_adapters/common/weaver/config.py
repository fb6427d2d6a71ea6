"""weaver's data config as data models: which keys there are, and what they may hold.

The format is that of weaver-core 0.4 (https://github.com/hqucms/weaver-core, ``DataConfig``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from hepdata_adapters.common.config.config_file import validated
from hepdata_adapters.common.config.feature_config import Finite
from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_adapters.common.core.frozen_model import FrozenModel


def _no_nan(value: float) -> float:
    if value != value:
        raise ValueError("NaN is no limit")
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _each(values: Any) -> Any:
    """A list; weaver takes a single item for a list of one, and null for none."""
    if values is None:
        return ()
    return values if isinstance(values, list | tuple) else (values,)


Limit = Annotated[float, AfterValidator(_no_nan)]
PadMode = Annotated[Literal["constant", "wrap"], BeforeValidator(_lower)]
Center = Literal["auto"] | Finite | None
Strings = Annotated[tuple[str, ...], BeforeValidator(_each)]


class Standardisation(FrozenModel):
    """``clip((value - center) * scale, min, max)``; nothing at all where center is null."""

    length: int | None = Field(default=None, ge=1)
    pad_mode: PadMode = "constant"
    center: Center = None
    scale: Finite = 1.0
    min: Limit = -5.0
    max: Limit = 5.0
    pad_value: Finite = 0.0


class Variable(FrozenModel):
    """An item of ``vars``: ``name`` or ``[name, subtract, multiply, min, max, pad_value]``.

    given: whether it says itself what to subtract; without that ``preprocess.method`` decides.
    """

    name: str = Field(min_length=1)
    given: bool = False
    center: Center = None
    scale: Finite = 1.0
    min: Limit = -5.0
    max: Limit = 5.0
    pad_value: Finite = 0.0

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, item: Any) -> Any:
        values = list(_each(item)) if not isinstance(item, dict) else item
        keys = ("name", "center", "scale", "min", "max", "pad_value")
        if not isinstance(values, list) or not 1 <= len(values) <= len(keys):
            raise ValueError("a variable is a name, or a list of a name and at most 5 numbers")
        found = dict(zip(keys, values, strict=False))
        return found | {"given": "center" in found}


class Group(FrozenModel):
    """An input: its variables as ``(n, variables, length)``."""

    vars: tuple[Variable, ...] = Field(min_length=1)
    length: int | None = Field(ge=1)
    pad_mode: PadMode = "constant"

    @field_validator("vars", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return _each(value)


class Preprocess(FrozenModel):
    """params: of each variable, as weaver writes them into ``NAME.auto.yaml``."""

    method: str = "manual"
    data_fraction: float | None = 0.1
    params: dict[str, Standardisation] | None = None

    @property
    def automatic(self) -> bool:
        return self.method.lower().startswith("auto")


class Labels(FrozenModel):
    """simple: a column of 0 and 1 for each class. Any other type: expressions by name."""

    type: str
    value: tuple[str, ...] | dict[str, str]

    @model_validator(mode="after")
    def _fits(self) -> Labels:
        if (self.type == "simple") != isinstance(self.value, tuple) or not self.value:
            wish = "a list of columns" if self.type == "simple" else "expressions by name"
            raise ValueError(f"labels of type {self.type} have {wish} as their value")
        return self


class Weights(FrozenModel):
    """Precomputed ones are a product of columns; all other keys are of the reweighting."""

    model_config = ConfigDict(frozen=True, extra="allow")

    use_precomputed_weights: bool
    weight_branches: Strings = ()

    @model_validator(mode="after")
    def _some(self) -> Weights:
        if self.use_precomputed_weights and not self.weight_branches:
            raise ValueError("use_precomputed_weights needs weight_branches")
        return self


class WeaverConfig(FrozenModel):
    """The whole document."""

    treename: str | None = None
    branch_magic: dict[str, Any] | None = None
    file_magic: dict[str, Any] | None = None
    selection: str | None = None
    test_time_selection: str | None = None
    preprocess: Preprocess = Preprocess()
    new_variables: dict[str, str] = Field(default={})
    inputs: dict[str, Group] = Field(min_length=1)
    labels: Labels | None = None
    observers: Strings = ()
    monitor_variables: Strings = ()
    weights: Weights | None = None


def weaver_config(document: Any, source: str) -> WeaverConfig:
    """The document, checked. Raises ConfigError naming each wrong key and its reason."""
    if not isinstance(document, Mapping):
        raise ConfigError(f"{source} holds no mapping of keys to values")
    known = WeaverConfig.model_fields
    unknown = [key for key in document if key not in known]
    if unknown:
        hint = nearest(str(unknown[0]), known)
        raise ConfigError(f"{source}: weaver has no key {str(unknown[0])[:80]!r}{hint}")
    if not document.get("inputs"):
        raise ConfigError(f"{source}: inputs: weaver's data configs have some, this has none")
    # null is as good as nothing for weaver
    given = {key: value for key, value in document.items() if value is not None}
    return validated(WeaverConfig, given, source)
