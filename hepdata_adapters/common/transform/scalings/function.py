"""What a scaling is made of: a function, written once for every backend, and how it is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Annotated, Any, ClassVar, NamedTuple, NoReturn, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hepdata_adapters.common.core.frozen_model import FrozenModel
from hepdata_adapters.common.expressions.columnar import NumpyMathematics
from hepdata_adapters.common.expressions.functions import Mathematics

Values = NDArray[np.float64]
Finite = Annotated[float, Field(allow_inf_nan=False)]

LARGEST_LOG = 1500.0
"""No logarithm of float64 numbers, of a sum of two or of a ratio of two, is larger."""


class ScalingBackend(Protocol):
    """The primitives of numpy, torch or TensorFlow that scalings are written in, on float64.

    math: elementwise functions. namespace: what a user's function is called with.
    """

    math: Mathematics
    namespace: Any

    def interpolate(self, values: Any, knots: Any, levels: Any) -> Any:
        """Straight lines between (knot, level); the first and last level beyond them."""

    def as_values(self, result: Any, values: Any) -> Any:
        """What a user's function returned, float64. Raises ValueError if its shape is not that of
        the values.
        """


class NumpyBackend:
    """The reference: numpy arrays of any shape."""

    math = cast(Mathematics, NumpyMathematics)
    namespace: Any = np

    @staticmethod
    def interpolate(values: Values, knots: Any, levels: Any) -> Values:
        return np.asarray(np.interp(values, knots, levels), np.float64)

    @staticmethod
    def as_values(result: Any, values: Values) -> Values:
        array = np.asarray(result, np.float64)
        if array.shape != np.shape(values):
            raise ValueError(f"returned shape {array.shape} for {np.shape(values)}")
        return array


NUMPY: ScalingBackend = NumpyBackend()


class Function(FrozenModel, ABC):
    """A function that a value goes through before it is centred and scaled.

    It grows with the value, so that quantiles go through it, and is computed in float64. Arrays may
    have any shape; NaN or infinity stands where it is not defined.

    parameters: names of the fields that are numbers, or tables of numbers. A backend may compute
    many columns ``(..., c)`` at once, whose functions differ in these alone; they then come as
    ``(c,)`` and ``(c, k)``.
    """

    parameters: ClassVar[tuple[str, ...]] = ()

    kind: str

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.kind

    @property
    @abstractmethod
    def text(self) -> str:
        """What it does, for people."""

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

    @abstractmethod
    def forward(self, backend: ScalingBackend, values: Any, *parameters: Any) -> Any:
        """The function in the operations of a backend. parameters: in the order of their names."""

    @abstractmethod
    def inverse(self, values: Values) -> Values:
        """The way back, in numpy."""

    def __call__(self, values: Values) -> Values:
        result: Values = self.forward(NUMPY, values, *self.numbers)
        return result

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Its parameters."""
        return tuple(getattr(self, name) for name in self.parameters)

    @property
    def group(self) -> Hashable:
        """Equal for functions that differ in their parameters alone."""
        return tuple(sorted(self.model_dump(exclude=set(self.parameters)).items()))


class Scaled(NamedTuple):
    """A fitted scaling: the fields of `FeatureTransform` of the same names."""

    function: Any = None
    center: float = 0.0
    factor: float = 1.0


class TrainingValues(Protocol):
    """What a scaling may know of a feature: the values of the training split, after its clip.

    mean, std: of the values without the clip.
    """

    mean: float
    std: float

    def range(self) -> tuple[float, float]:
        """The lowest and the highest value."""

    def quantiles(self, levels: Values) -> Values:
        """Values of which these shares lie below; the levels are between 0 and 1."""

    def location_and_spread(self, function: Function | None = None) -> tuple[float, float]:
        """Median and half the 16-84 % distance, of the function's values if there is one."""

    def refuse(self, reason: str, **settles: str) -> NoReturn:
        """Raise FeatureError. settles: keys of the feature that would settle it."""


def factor_of(spread: float) -> float:
    """What to multiply by; 1 for a constant column.

    >>> factor_of(2.0), factor_of(0.0)
    (0.5, 1.0)
    """
    return 1.0 / spread if spread > 0 else 1.0
