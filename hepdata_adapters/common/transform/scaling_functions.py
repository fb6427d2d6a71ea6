"""Functions that a value goes through before it is centred and scaled, and their inverses.

All of them grow with the value, so that quantiles go through them, and work in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hepdata_adapters.common.config.user_model import load_factory
from hepdata_adapters.common.core.errors import ConfigError, nearest

Values = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]
UserFunction = Callable[[Any, Any], Any]

LARGEST_LOG = 1500.0
"""No logarithm of float64 numbers, of a sum of two or of a ratio of two, is larger."""


class _Function(BaseModel):
    """Float64 arrays of any shape to others; NaN or infinity where it is not defined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def label(self) -> str:
        """What messages call it."""
        return str(self.kind)  # type: ignore[attr-defined]

    @property
    def largest(self) -> float:
        """No result is larger, in absolute value."""
        return LARGEST_LOG

    @property
    def invertible(self) -> bool:
        return True

    def fails_above(self, low: float) -> bool:
        """Whether it is undefined for some value of at least ``low``."""
        return False


class Log(_Function):
    """The natural logarithm, of values above 0.

    >>> Log()(np.array([1.0])).tolist(), Log().inverse(np.array([0.0])).tolist()
    ([0.0], [1.0])
    """

    kind: Literal["log"] = "log"

    def __call__(self, values: Values) -> Values:
        return np.log(values)

    def inverse(self, values: Values) -> Values:
        return np.exp(values)

    def fails_above(self, low: float) -> bool:
        return low <= 0


class Log1p(_Function):
    """``log(1 + value)``, of values above -1."""

    kind: Literal["log1p"] = "log1p"

    def __call__(self, values: Values) -> Values:
        return np.log1p(values)

    def inverse(self, values: Values) -> Values:
        return np.expm1(values)

    def fails_above(self, low: float) -> bool:
        return low <= -1


class Asinh(_Function):
    """``asinh((value - center) / scale)``: linear near the center, logarithmic far from it."""

    kind: Literal["asinh"] = "asinh"
    center: Finite = 0.0
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    def __call__(self, values: Values) -> Values:
        return np.arcsinh((values - self.center) / self.scale)

    def inverse(self, values: Values) -> Values:
        return np.sinh(values) * self.scale + self.center

    def fails_above(self, low: float) -> bool:
        # of a tiny scale the ratio is no float64 number any more
        return self.scale < 1


class Quantile(_Function):
    """The fraction of values below: straight lines between ``knots`` (values) and ``levels``.

    What lies beyond the first and the last knot gets the first and the last level.

    >>> Quantile(knots=(0, 10, 30), levels=(0, 0.5, 1))(np.array([-1.0, 5.0, 20.0])).tolist()
    [0.0, 0.25, 0.75]
    """

    kind: Literal["quantile"] = "quantile"
    knots: tuple[Finite, ...] = Field(min_length=2, max_length=4096)
    levels: tuple[Finite, ...] = Field(min_length=2, max_length=4096)

    @model_validator(mode="after")
    def _increasing(self) -> Quantile:
        if len(self.knots) != len(self.levels):
            raise ValueError("a quantile function has as many levels as knots")
        if min(np.diff(self.knots).min(), np.diff(self.levels).min()) <= 0:
            raise ValueError("the knots and levels of a quantile function grow")
        return self

    @property
    def largest(self) -> float:
        return max(abs(self.levels[0]), abs(self.levels[-1]))

    def __call__(self, values: Values) -> Values:
        return np.interp(values, self.knots, self.levels)

    def inverse(self, values: Values) -> Values:
        return np.interp(values, self.levels, self.knots)


class Registered(_Function):
    """A function of the user's, by the name it has in `scaling_function`.

    Raises ConfigError where no module that registers the name has been imported.
    """

    kind: Literal["registered"] = "registered"
    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        registered(name)
        return name

    @property
    def label(self) -> str:
        return self.name

    @property
    def largest(self) -> float:
        return math.inf

    @property
    def invertible(self) -> bool:
        return registered(self.name).inverse is not None

    def __call__(self, values: Values) -> Values:
        return _called(self.name, registered(self.name).function, values)

    def inverse(self, values: Values) -> Values:
        inverse = registered(self.name).inverse
        if inverse is None:
            raise ConfigError(f"scaling function {self.name!r} has no inverse")
        return _called(self.name, inverse, values)

    def fails_above(self, low: float) -> bool:
        return True  # nothing is known of it


ScalingFunction = Annotated[
    Log | Log1p | Asinh | Quantile | Registered, Field(discriminator="kind")
]


class UserScaling(NamedTuple):
    """What a name stands for."""

    function: UserFunction
    inverse: UserFunction | None


_REGISTRY: dict[str, UserScaling] = {}
"""By name. Filled when modules are imported, as a decorator can fill nothing else."""


def scaling_function(
    name: str, *, inverse: UserFunction | None = None
) -> Callable[[UserFunction], UserFunction]:
    """Register ``function(xp, values)`` as a scaling that configs can name.

    It is called with numpy arrays, torch tensors and TensorFlow tensors, float64 of any shape, and
    ``xp`` is the namespace with their functions (``numpy``, ``torch``,
    ``tensorflow.experimental.numpy``): use what all of them have. It returns as many values, which
    are taken as they are; NaN or infinity stands for a value outside of its domain. The name is
    stored in archives, so a server has to import the module as well.

    inverse: the same for the way back, ``VectorTransform.inverse``.

    Raises ConfigError for a name that another function has.

    >>> @scaling_function("signed_sqrt", inverse=lambda xp, v: xp.sign(v) * v * v)
    ... def signed_sqrt(xp, values):
    ...     return xp.sign(values) * xp.sqrt(xp.abs(values))
    >>> Registered(name="signed_sqrt")(np.array([-4.0, 9.0])).tolist()
    [-2.0, 3.0]
    """
    if not name.isidentifier():
        raise ConfigError(f"a scaling function needs a plain name, not {name!r}")

    def register(function: UserFunction) -> UserFunction:
        known = _REGISTRY.get(name)
        if known is not None and not _same(known.function, function):
            raise ConfigError(
                f"scaling function {name!r} is already "
                f"{known.function.__module__}.{known.function.__qualname__}"
            )
        _REGISTRY[name] = UserScaling(function, inverse)
        return function

    return register


def registered(name: str) -> UserScaling:
    """The user's function of this name. Raises ConfigError if there is none."""
    if name not in _REGISTRY:
        raise ConfigError(
            f"no scaling function is called {name!r}{nearest(name, _REGISTRY)}: import the module "
            f"that registers it with @scaling_function({name!r}) first"
        )
    return _REGISTRY[name]


def user_function(reference: str) -> Registered:
    """The function of a config: a registered name, ``module:function`` or ``file.py:function``.

    This runs the user's own code; references from untrusted configs must not come here. Raises
    ConfigError if the function cannot be imported or its import does not register it.
    """
    if ":" not in reference:
        return Registered(name=reference)
    function = load_factory(reference, "scaling.function", ("xp", "values"))
    for name, known in _REGISTRY.items():
        if known.function is function:
            return Registered(name=name)
    raise ConfigError(
        f"scaling function {reference!r} is not registered: put @scaling_function(NAME) above it"
    )


def import_functions(references: Iterable[str]) -> None:
    """Import the modules and files that ``module:function`` references name, see `user_function`.

    A process that was not there when a config was read has none of the user's functions.
    """
    for reference in references:
        if ":" in reference:
            user_function(reference)


def _same(known: UserFunction, function: UserFunction) -> bool:
    """A module that is loaded again, or a copy of its file, brings its functions again."""
    if known.__qualname__ != function.__qualname__:
        return False
    old, new = (getattr(made, "__code__", None) for made in (known, function))
    copied = old is not None and new is not None and old.co_code == new.co_code
    return known.__module__ == function.__module__ or copied


def _called(name: str, function: UserFunction, values: Values) -> Values:
    try:
        result = np.asarray(function(np, values), np.float64)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"scaling function {name!r} failed: {error!r}") from error
    if result.shape != np.shape(values):
        raise ConfigError(
            f"scaling function {name!r} returned shape {result.shape} for {np.shape(values)}"
        )
    return result
