"""The reference transform: the objects of each event as a padded set, for transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hepdata_adapters.common.core.columns import (
    Array,
    Column,
    Columns,
    offsets_from_lengths,
    ranges,
)
from hepdata_adapters.common.core.faults import Fault, refuse
from hepdata_adapters.common.files.objects import jagged
from hepdata_adapters.common.transform.object_features import ObjectFeatures
from hepdata_adapters.common.transform.output import Line, Output, line_counts
from hepdata_adapters.common.transform.vector import TOO_LONG
from hepdata_adapters.common.transform.vector_feature import Pad


class SetTransform(ObjectFeatures):
    """Jagged columns to "" ``(n, k, f)`` of ``dtype`` and "_mask" ``(n, k)`` bool.

    length: k. The mask is true where there is an object; a NaN inside of one is filled and
    counted, the mask stays true.
    overflow: longer events keep their first k objects, the others are counted, or are an error.
    The values of all objects must be allowed, also of those that are cut off.
    pad: stands where there is no object.

    >>> from hepdata_adapters.common.core.columns import Jagged
    >>> from hepdata_adapters.common.transform.scaling import ValueScaling
    >>> transform = SetTransform(length=2, features=(ValueScaling(
    ...     branch="pt", dtype="float32", factor=0.5),))
    >>> out = transform({"pt": Jagged.from_lists([[30.0], [8.0, 6.0, 4.0]])})
    >>> out.arrays[""].tolist()
    [[[15.0], [0.0]], [[4.0], [3.0]]]
    >>> out.arrays["_mask"].tolist()
    [[True, False], [True, True]]
    >>> transform.counted, out.counts.tolist()
    ((('objects beyond the set', 'pt'),), [[0], [1]])
    """

    kind: Literal["set"] = "set"
    length: int = Field(ge=1)
    overflow: Literal["truncate", "error"] = "truncate"
    pad: Pad = 0.0

    @model_validator(mode="before")
    @classmethod
    def _of_one_width(cls, given: Any) -> Any:
        """Features of a vector, and those of older archives, have a width of their own."""
        features = given.get("features", ()) if isinstance(given, Mapping) else ()
        for one in features if isinstance(features, list | tuple) else ():
            own = one if isinstance(one, Mapping) else getattr(one, "__dict__", {})
            if own.get("width", given.get("length")) != given.get("length"):
                raise ValueError(f"{own.get('branch')}: its width is not the length of the set")
        return given

    @model_validator(mode="after")
    def _fits(self) -> SetTransform:
        if self.dtype == "int64" and not (self.pad.is_integer() and abs(self.pad) < 2**63):
            raise ValueError(f"pad {self.pad:g} is no int64")
        return self

    @property
    def counted(self) -> tuple[Line, ...]:
        """The ledger line of each column of counts."""
        cut: Line = ("objects beyond the set", self.branches[0])
        return self.value_lines if self.overflow == "error" else (cut, *self.value_lines)

    def __call__(self, columns: Mapping[str, Column]) -> Output:
        """Transform n events. Raises as `ObjectFeatures.encode`, and for overlong events."""
        values, offsets, counts = self.encode(columns)
        lengths = np.diff(offsets)
        if self.overflow == "error" and (lengths > self.length).any():
            for fault in self._refused(columns):
                refuse(fault)
        kept = np.minimum(lengths, self.length)
        x = np.full((len(lengths), self.length, len(self.features)), self.pad, self.dtype)
        objects = ranges(np.arange(len(lengths)) * self.length, kept)
        x.reshape(-1, len(self.features))[objects] = values[ranges(offsets[:-1], kept)]
        counts["objects beyond the set", self.branches[0]] = (lengths - kept).astype(np.int32)
        return Output(
            {"": x, "_mask": np.arange(self.length) < lengths[:, np.newaxis]},
            line_counts(self.counted, counts, len(lengths)),
        )

    def inverse(self, values: Array, mask: NDArray[np.bool_]) -> Columns:
        """Jagged columns in raw units of the objects that the mask keeps.

        values: ``(n, k, f)``, also of a model; mask: ``(n, k)`` bool. Columns are float64, or
        int64 of such a set. Raises ConfigError where a scaling has no inverse.
        """
        mask = np.asarray(mask, np.bool_)
        return self.decode(np.asarray(values)[mask], offsets_from_lengths(mask.sum(1)))

    def _refused(self, columns: Mapping[str, Column]) -> list[Fault]:
        branch = self.branches[0]
        lengths = jagged(columns, branch).lengths
        found = super()._refused(columns)
        if self.overflow == "error":
            found += [
                Fault(
                    int(row),
                    branch,
                    f"{branch} has {lengths[row]} objects, at most {self.length} fit",
                    TOO_LONG,
                )
                for row in np.flatnonzero(lengths > self.length)
            ]
        return found
