"""The features of the objects of events as one matrix: what sets and ragged values share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hepdata_adapters.common.core.columns import Array, Column, Columns, Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.faults import Fault, refuse
from hepdata_adapters.common.files.objects import (
    count_objects,
    faults_of_objects,
    jagged,
    object_offsets,
    rows_of_objects,
)
from hepdata_adapters.common.transform.output import Line
from hepdata_adapters.common.transform.scaling import NOT_FINITE, Flags, Refusal, ValueScaling
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

Dtype = Literal["float32", "float64", "int64"]


class ObjectFeatures(BaseModel):
    """Jagged branches that share a count, one feature of the objects each.

    dtype: ``float32`` takes scaled features. ``float64`` and ``int64`` are raw values, exactly:
    they take unscaled ones, whose dtype fits without rounding; ConfigError for others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[ValueScaling, ...] = Field(min_length=1)
    dtype: Dtype = "float32"

    @field_validator("features", mode="before")
    @classmethod
    def _without_layout(cls, features: Any) -> Any:
        return [_scaling(given) for given in features] if _is_list(features) else features

    @field_validator("features")
    @classmethod
    def _once(cls, features: tuple[ValueScaling, ...]) -> tuple[ValueScaling, ...]:
        names = [feature.branch for feature in features]
        if len(set(names)) != len(names):
            raise ValueError("a branch stands twice among the features")
        return features

    @model_validator(mode="after")
    def _exact(self) -> ObjectFeatures:
        if self.dtype == "float32":
            return self
        for feature in self.features:
            if (feature.function, feature.clip) != (None, None) or (
                (feature.center, feature.factor) != (0, 1)
            ):
                raise ConfigError(
                    f"feature {feature.branch!r} of dtype {self.dtype} holds raw values: "
                    "give it scaling 'none' and no clip, or take dtype float32"
                )
            if not np.can_cast(feature.dtype, self.dtype) or (
                self.dtype == "float64" and np.dtype(feature.dtype) in (np.int64, np.uint64)
            ):
                raise ConfigError(
                    f"feature {feature.branch!r} is {feature.dtype}, which {self.dtype} does "
                    "not hold exactly: take another dtype or leave it out"
                )
        return self

    @property
    def branches(self) -> tuple[str, ...]:
        """The prepared columns that it reads."""
        return tuple(feature.branch for feature in self.features)

    @property
    def value_lines(self) -> tuple[Line, ...]:
        """The ledger lines of single values: those that can occur."""
        filled = [f.branch for f in self.features if f.may_miss and f.missing is not None]
        clipped = [f.branch for f in self.features if f.clip is not None]
        lines: list[Line] = [("values filled (NaN or infinity)", branch) for branch in filled]
        return (*lines, *(("values clipped", branch) for branch in clipped))

    def encode(
        self, columns: Mapping[str, Column]
    ) -> tuple[Array, NDArray[np.int64], dict[Line, NDArray[np.int32]]]:
        """The features of all objects ``(m, f)``, offsets ``(n + 1,)``, and counts ``(n,)``.

        Raises InvalidValueError for the first value that a policy forbids, and where the
        branches differ in their number of objects; BranchError for a flat branch.
        """
        offsets = object_offsets(columns, self.branches)
        matrix = np.empty((int(offsets[-1]), len(self.features)), self.dtype)
        counts: dict[Line, NDArray[np.int32]] = {}
        for values, feature in zip(matrix.T, self.features, strict=True):
            encoded = self._encoded(feature, jagged(columns, feature.branch).content)
            if encoded.refused.any():
                for fault in self._refused(columns):
                    refuse(fault)
            values[:] = encoded.values
            branch = feature.branch
            counts["values filled (NaN or infinity)", branch] = count_objects(
                encoded.filled, offsets
            )
            counts["values clipped", branch] = count_objects(encoded.clipped, offsets)
        return matrix, offsets, counts

    def decode(self, matrix: Array, offsets: NDArray[np.int64]) -> Columns:
        """The jagged columns in raw units of objects ``(m, f)``: float64, or int64 of such.

        Raises ConfigError where the scaling of a feature has no inverse.
        """
        return {
            feature.branch: Jagged(self._decoded(feature, matrix[:, number]), offsets)
            for number, feature in enumerate(self.features)
        }

    def faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """All values that the policies forbid, at most one an event, branch and reason."""
        return faults_of_objects(columns, self.branches, self._refused)

    def _refused(self, columns: Mapping[str, Column]) -> list[Fault]:
        rows = rows_of_objects(jagged(columns, self.branches[0]).offsets)
        return [
            Fault(int(row), feature.branch, f"{feature.branch} {reason}", kind)
            for feature in self.features
            for kind, reason, flags in self._refusals(feature, columns)
            for row in np.unique(rows[flags])
        ]

    def _refusals(self, feature: ValueScaling, columns: Mapping[str, Column]) -> list[Refusal]:
        content = jagged(columns, feature.branch).content
        if self.dtype == "float32":
            return feature.refusals(content)
        return [Refusal("missing", NOT_FINITE, self._encoded(feature, content).refused)]

    def _encoded(self, feature: ValueScaling, content: Array) -> _Encoded:
        if self.dtype == "float32":
            return _Encoded(*feature.encode(content))
        values = content.astype(self.dtype)
        filled = ~np.isfinite(values)
        none = np.zeros_like(filled)
        if feature.missing is None:
            return _Encoded(values, none, none, filled)
        if filled.any():  # never of integers
            values[filled] = feature.missing
        return _Encoded(values, filled, none, none)

    def _decoded(self, feature: ValueScaling, values: Array) -> Array:
        return feature.decode(values) if self.dtype == "float32" else values.astype(self.dtype)


def _is_list(features: Any) -> bool:
    return isinstance(features, list | tuple)


def _scaling(given: Any) -> Any:
    """The scaling of a feature of the vector, and of a feature as older archives hold it."""
    if isinstance(given, FeatureTransform):
        given = {**given.model_dump(), "function": given.function}
    if not isinstance(given, Mapping):
        return given
    if given.get("kind", "jagged") != "jagged" or given.get("indicator", False):
        raise ValueError(f"{given.get('branch')}: objects have jagged features, no indicators")
    return {name: value for name, value in given.items() if name not in _LAYOUT}


_LAYOUT = FeatureTransform.model_fields.keys() - ValueScaling.model_fields.keys()


class _Encoded(NamedTuple):
    """Arrays of one shape: values of any dtype, and flags as those of `Encoded`."""

    values: Array
    filled: Flags
    clipped: Flags
    refused: Flags
