"""A user's own scaling: a function registered by name, the same in every backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from pydantic import field_validator

from hepdata_adapters.common.config.user_model import load_factory
from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_adapters.common.transform.scalings.function import (
    NUMPY,
    Function,
    ScalingBackend,
    Values,
)

UserFunction = Callable[[Any, Any], Any]


class Registered(Function):
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

    @property
    def text(self) -> str:
        return f"{self.name}(value), a registered function"

    def forward(self, backend: ScalingBackend, values: Any) -> Any:
        return _called(self.name, registered(self.name).function, backend, values)

    def inverse(self, values: Values) -> Values:
        inverse = registered(self.name).inverse
        if inverse is None:
            raise ConfigError(f"scaling function {self.name!r} has no inverse")
        result: Values = _called(self.name, inverse, NUMPY, values)
        return result

    def fails_above(self, low: float) -> bool:
        return True  # nothing is known of it


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

    >>> import numpy as np
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


def _called(name: str, function: UserFunction, backend: ScalingBackend, values: Any) -> Any:
    try:
        result = function(backend.namespace, values)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"scaling function {name!r} failed: {error!r}") from error
    try:
        return backend.as_values(result, values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scaling function {name!r} {error}") from error
