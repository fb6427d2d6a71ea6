"""What happens to one value of a branch: clipped, through a function, centred, scaled; and back.

``float32((function(clip(value)) - center) * factor)``, all but the last step in float64, so that
large values lose digits only in the result.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from hepdata_adapters.common.config.feature_config import Clip
from hepdata_adapters.common.core.columns import Array, numeric_dtype
from hepdata_adapters.common.core.errors import ConfigError, FaultKind
from hepdata_adapters.common.core.frozen_model import FrozenModel
from hepdata_adapters.common.transform.scalings import ScalingFunction

LARGEST = float(np.finfo(np.float32).max)
NOT_FINITE = "holds NaN or infinity"
TOO_LARGE = "is too large for float32"
Flags = NDArray[np.bool_]


class Encoded(NamedTuple):
    """Arrays of the shape of the values.

    values: float32; those of refused values mean nothing.
    filled: NaN, infinite or outside of the domain of the function; the fill value stands there.
    clipped: finite values that lay outside of the interval.
    refused: filled ones where nothing may stand there, and those too large for float32.
    """

    values: NDArray[np.float32]
    filled: Flags
    clipped: Flags
    refused: Flags


class Refusal(NamedTuple):
    """Why values are refused, and which of them: flags of the shape of the values."""

    kind: FaultKind
    reason: str
    flags: Flags


class ValueScaling(FrozenModel):
    """How the values of one branch are scaled (see the module).

    dtype: of the raw values. function, center, factor: the scaling.
    clip: lowest and highest raw value, either may be None; NaN and infinity are not clipped.
    missing: the raw value that replaces NaN, ±infinity and what the function is not defined for
    (the entry's mask is then false); it is not clipped. ``None`` makes them an error.

    >>> scaling = ValueScaling(
    ...     branch="MET", dtype="float32", function={"kind": "log"}, clip=(1, None), missing=1)
    >>> scaling.encode(np.array([0.5, np.nan])).values.tolist()
    [0.0, 0.0]
    """

    branch: str
    dtype: Annotated[str, AfterValidator(numeric_dtype)]
    function: ScalingFunction | None = None
    center: float = Field(default=0.0, allow_inf_nan=False)
    factor: float = Field(default=1.0, allow_inf_nan=False)
    clip: Clip | None = None
    missing: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fill_fits(self) -> Self:
        if self.missing is not None and not abs(self.fill) <= LARGEST:
            raise ValueError(
                f"{self.branch}: the fill value {self.missing:g} is too large"
                if self.function is None
                else f"{self.branch}: the fill value {self.missing:g} "
                f"{undefined_by(self.function)} or too large"
            )
        return self

    @property
    def fill(self) -> float:
        """The scaled value that stands where one is missing; 0 where nothing may."""
        if self.missing is None:
            return 0.0
        value = np.array([self.missing])
        return float(self._scaled(value)[0])

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and highest raw value after clipping, ±infinity where there is no limit."""
        low, high = self.clip or (None, None)
        return (-math.inf if low is None else low, math.inf if high is None else high)

    @property
    def may_miss(self) -> bool:
        """Whether a value can be NaN, infinite or outside of the domain of the function."""
        if np.dtype(self.dtype).kind == "f":
            return True
        return self.function is not None and self.function.fails_above(self._range[0])

    @property
    def may_overflow(self) -> bool:
        """Whether a finite value can become infinite in float32 once scaled."""
        function = self.function
        largest = function.largest if function is not None else max(map(abs, self._range))
        return not (largest + abs(self.center)) * abs(self.factor) <= LARGEST

    @property
    def may_refuse(self) -> bool:
        """Whether there are values that its policies forbid, apart from too many of them."""
        return self.may_overflow or (self.may_miss and self.missing is None)

    @property
    def invertible(self) -> bool:
        return self.factor != 0 and (self.function is None or self.function.invertible)

    def encode(self, content: Array) -> Encoded:
        """Raw values, any shape and real dtype, to scaled ones; nothing is raised for a value."""
        floating = content.dtype.kind == "f"
        filled = ~np.isfinite(content) if floating else np.zeros(content.shape, np.bool_)
        clipped = np.zeros(content.shape, np.bool_)
        values = content.astype(np.float64)
        if self.clip is not None:
            low, high = self.interval
            clipped = ((values < low) | (values > high)) & ~filled
            values = np.clip(values, low, high)
        values = self._scaled(values)
        if self.function is not None:
            filled |= ~np.isfinite(values)
        if filled.any():
            values[filled] = self.fill
        refused = filled if self.missing is None else np.zeros(content.shape, np.bool_)
        if self.may_overflow:
            refused = refused | (np.abs(values) > LARGEST)
        with np.errstate(over="ignore"):  # they are refused
            return Encoded(values.astype(np.float32), filled, clipped, refused)

    def refusals(self, content: Array) -> list[Refusal]:
        """Why values are refused, and which; those that are not numbers come first."""
        encoded = self.encode(content)
        infinite = ~np.isfinite(content)
        reasons = [
            Refusal("missing", NOT_FINITE, encoded.refused & infinite),
            Refusal("too large", TOO_LARGE, encoded.refused & ~encoded.filled),
        ]
        if self.function is not None:
            undefined = encoded.refused & encoded.filled & ~infinite
            reasons.insert(1, Refusal("undefined", undefined_by(self.function), undefined))
        return [refusal for refusal in reasons if refusal.flags.any()]

    def decode(self, values: Array) -> NDArray[np.float64]:
        """Scaled values, any shape, to raw ones.

        What was clipped comes back as the limit. float32 holds a scaled value to 6e-8 of itself.
        Without a function, a value so comes back to 6e-8 of its distance from ``center``; with
        ``log``, ``log1p`` or ``asinh``, 6e-8 times the distance of its logarithm from that of the
        median, relative to the value (``log1p``: plus 1, ``asinh``: plus the spread). With
        ``quantile``, it is 3e-8 over the difference of the levels of the two knots around it, so
        3e-6 for 1 %, of the distance of these knots: float32 has no finer numbers below 1.

        Raises ConfigError where the scaling has no inverse.
        """
        if not self.invertible:
            label = self.function.label if self.function else "a factor of 0"
            raise ConfigError(
                f"feature {self.branch!r} cannot be scaled back: no inverse of {label}"
            )
        with np.errstate(all="ignore"):  # a model may answer with anything
            raw = np.asarray(values).astype(np.float64) / self.factor + self.center
            return raw if self.function is None else self.function.inverse(raw)

    @property
    def _range(self) -> tuple[float, float]:
        """The lowest and highest finite number of the dtype, once clipped."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "b":
            lowest, highest = 0.0, 1.0
        else:
            limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
            lowest, highest = float(limits.min), float(limits.max)
        low, high = self.interval
        return min(max(lowest, low), high), min(max(highest, low), high)

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):  # NaN and infinities are looked for in the result
            if self.function is not None:
                values = self.function(values)
            return (values - self.center) * self.factor


def undefined_by(function: ScalingFunction) -> str:
    """Why a value that the function does not take is refused."""
    return f"is outside of the domain of {function.label}"
