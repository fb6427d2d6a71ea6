"""The whole transform of an event: prepared columns, then every representation of the config.

One object for training, evaluation and serving; it is saved in run folders and archives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hepdata_adapters.common.config.user_model import ModelShape
from hepdata_adapters.common.core.columns import (
    OFFSETS,
    Array,
    Column,
    Columns,
    Jagged,
    empty_lists,
    flattened,
)
from hepdata_adapters.common.core.faults import Fault
from hepdata_adapters.common.core.ledger import LedgerKind
from hepdata_adapters.common.files.preparation import READ, REMOVED, Preparation, RawBranch
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.common.transform.ragged import RaggedTransform
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

VECTOR = ("x", "mask", "lengths")
InputTransform = Annotated[
    SetTransform | ImageTransform | RaggedTransform, Field(discriminator="kind")
]
ModelInput = Array | dict[str, Array]
"""What a model takes: ``x`` alone, or arrays by name where there are more representations."""
ScoreFunction = Callable[[ModelInput], NDArray[np.float32]]
"""A model as serving and evaluation call it: ``(n,)`` scores, ``(n, C)`` of several classes."""


class Transformed(NamedTuple):
    """The output for n events.

    arrays: by name; ``x``, ``mask`` and ``lengths`` of the vector, ``NAME`` and ``NAME_…`` of
    each input; dense ones have n rows, ragged ones are `Jagged`. counts: ``(n, C)`` int32, for
    the ledger, see `Transform.counted`.
    """

    arrays: dict[str, Column]
    counts: NDArray[np.int32]


class Transform(BaseModel):
    """Raw columns of events to all that the model sees.

    vector: the columns of ``x``; None where the config lists no features. inputs: further
    representations by name. Version 2 is that before shared counts.

    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="MET", kind="flat", dtype="float32", width=1, factor=0.5),)))
    >>> columns = transform.prepare({"MET": np.array([10.0, 4.0], np.float32)})
    >>> transform(columns).arrays["x"].tolist()
    [[5.0], [2.0]]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["hepdata-transform"] = "hepdata-transform"
    version: Literal[2, 3] = 3
    preparation: Preparation
    vector: VectorTransform | None = None
    inputs: dict[str, InputTransform] = {}

    @model_validator(mode="after")
    def _complete(self) -> Transform:
        if self.vector is None and not self.inputs:
            raise ValueError("a transform without features and inputs")
        raw = {branch.name: branch.kind for branch in self.branches}
        for count in self.preparation.counts:
            for kind, names in (("jagged", count.lists), ("flat", count.counts)):
                wrong = [name for name in names if raw.get(name) != kind]
                if wrong:
                    raise ValueError(f"{wrong[0]!r} shares a count, but is no {kind} branch")
        missing = [name for name in self.preparation.needs(self.columns) if name not in raw]
        if missing:
            raise ValueError(f"{missing[0]!r} is used, but is no branch of the transform")
        return self

    @classmethod
    def of_vector(cls, vector: VectorTransform) -> Transform:
        """A vector of plain branches alone."""
        branches = tuple(
            RawBranch(
                name=feature.branch, kind=feature.kind, dtype=feature.dtype,
                size=feature.width if feature.kind == "array" else 1,
            )
            for feature in vector.features
        )  # fmt: skip
        return cls(preparation=Preparation(branches=branches), vector=vector)

    @property
    def branches(self) -> tuple[RawBranch, ...]:
        """The branches of a raw event."""
        return self.preparation.branches

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The prepared columns that the representations are made of."""
        names = [feature.branch for feature in self.features]
        for made in self.inputs.values():
            names += made.branches
        return tuple(dict.fromkeys(names))

    @property
    def features(self) -> tuple[FeatureTransform, ...]:
        """The features of ``x``."""
        return self.vector.features if self.vector else ()

    @property
    def jagged(self) -> tuple[FeatureTransform, ...]:
        """The jagged features of ``x``, in the order of the columns of ``lengths``."""
        return self.vector.jagged if self.vector else ()

    @property
    def feature_names(self) -> list[str]:
        """Names of the d columns of ``x``."""
        return self.vector.feature_names if self.vector else []

    @property
    def num_features(self) -> int:
        """d, the number of columns of ``x``."""
        return self.vector.num_features if self.vector else 0

    @cached_property
    def counted(self) -> tuple[tuple[LedgerKind, str], ...]:
        """The ledger line of each column of ``counts``: its kind and its place."""
        found = list(self.vector.counted) if self.vector else []
        for name, made in self.inputs.items():
            found += [(kind, f"{name}: {place}") for kind, place in made.counted]
        return tuple(found)

    @cached_property
    def objects_counted(self) -> dict[str, tuple[LedgerKind, str]]:
        """The columns that count the objects of groups with a cut, and their ledger lines."""
        found: dict[str, tuple[LedgerKind, str]] = {}
        for group in self.preparation.groups_of(self.columns):
            if group.selection is not None:
                place = f"{group.name}: {group.selection}"
                found[group.members[0] + READ] = ("objects read", place)
                found[group.members[0] + REMOVED] = ("objects removed by a cut", place)
        return found

    @cached_property
    def model_inputs(self) -> tuple[str, ...]:
        """The arrays that a model takes: ``x`` where there is nothing else."""
        return tuple(flattened(self.empty)) if self.inputs else ("x",)

    @property
    def model_shape(self) -> ModelShape:
        """What a model is built for: d, or the shape of an event in each of its inputs."""
        if not self.inputs:
            return self.num_features
        shapes: dict[str, tuple[int | None, ...]] = {}
        for name, values in self.empty.items():
            if isinstance(values, Jagged):
                shapes[name] = (None, *values.content.shape[1:])
                shapes[name + OFFSETS] = ()
            else:
                shapes[name] = values.shape[1:]
        return shapes

    @cached_property
    def empty(self) -> dict[str, Column]:
        """The arrays of no events: their names, dtypes and shapes."""
        raw = {branch.name: branch.no_events() for branch in self.branches}
        return self(self.prepare(raw)).arrays

    def model_input(self, arrays: Mapping[str, Column]) -> ModelInput:
        """What the model takes of these arrays."""
        found: ModelInput = chosen(flattened(arrays), self.model_inputs)
        return found

    def zeros(self, n: int) -> ModelInput:
        """What a model takes of n events of zeros: to try one without data."""
        columns: Columns = {
            name: empty_lists(values, n)
            if isinstance(values, Jagged)
            else np.zeros((n, *values.shape[1:]), values.dtype)
            for name, values in self.empty.items()
        }
        return self.model_input(columns)

    def prepare(self, raw: Mapping[str, Column]) -> Columns:
        """The prepared columns of raw ones. Raises InvalidValueError, see `Preparation`."""
        return self.preparation(raw, self.columns)

    def faults(self, columns: Mapping[str, Column]) -> list[Fault]:
        """All values of prepared columns that a policy forbids."""
        found = self.vector.faults(columns) if self.vector else []
        for made in self.inputs.values():
            found += made.faults(columns)
        return found

    def __call__(self, columns: Mapping[str, Column]) -> Transformed:
        """The representations of n events, from prepared columns.

        Raises InvalidValueError for the first value its policy forbids.
        """
        arrays: dict[str, Column] = {}
        counts: list[NDArray[np.int32]] = []
        if self.vector:
            vectors = self.vector(columns)
            arrays |= {"x": vectors.x, "mask": vectors.mask, "lengths": vectors.lengths}
            counts.append(vectors.counts)
        for name, made in self.inputs.items():
            output = made(columns)
            arrays |= {name + suffix: values for suffix, values in output.arrays.items()}
            counts.append(output.counts)
        return Transformed(arrays, np.concatenate(counts, axis=1))


def chosen(arrays: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Of the arrays (or tensors) of a batch what a model takes: ``x`` alone, or a dict.

    >>> chosen({"x": 1, "mask": 2}, ["x"]), chosen({"x": 1, "jets": 2, "event": 3}, ["x", "jets"])
    (1, {'x': 1, 'jets': 2})
    """
    return arrays["x"] if tuple(names) == ("x",) else {name: arrays[name] for name in names}
