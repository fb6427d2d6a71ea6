"""Where the values of one branch stand in the vector: how many columns they fill, and with what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hepdata_adapters.common.transform.scaling import LARGEST, ValueScaling

# no negative zero: TensorFlow would keep it as the constant 0 of the whole process
Pad = Annotated[float, Field(ge=-LARGEST, le=LARGEST), AfterValidator(lambda pad: pad + 0.0)]


class FeatureTransform(ValueScaling):
    """One branch: its values scaled, and padded to ``width`` columns.

    indicator: ``width`` more columns after those of the values, 1 where a value was replaced.
    overflow: what an event with more than ``width`` values gets (jagged branches only).
    pad: what stands in padded columns of the values, scaled; those of the indicator hold 0.

    >>> import numpy as np
    >>> feature = FeatureTransform(
    ...     branch="MET", kind="flat", dtype="float32", width=1, function={"kind": "log"},
    ...     clip=(1, None), missing=1)
    >>> feature.encode(np.array([0.5, np.nan])).values.tolist(), feature.column_names
    ([0.0, 0.0], ['MET'])
    """

    kind: Literal["flat", "array", "jagged"]
    width: int = Field(ge=1)
    indicator: bool = False
    overflow: Literal["truncate", "error"] = "truncate"
    pad: Pad = 0.0

    @property
    def columns(self) -> int:
        """Columns of ``x`` that this branch fills, with those of its indicator."""
        return 2 * self.width if self.indicator else self.width

    @property
    def column_names(self) -> list[str]:
        """Names of these columns: ``NAME`` or ``NAME[i]``, then ``NAME_missing``."""
        names = [self.branch, f"{self.branch}_missing"] if self.indicator else [self.branch]
        if self.kind == "flat":
            return names
        return [f"{name}[{i}]" for name in names for i in range(self.width)]
