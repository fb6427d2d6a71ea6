"""Batches of numpy arrays to elements of a ``tf.data.Dataset``.

All that is done here to a batch (casts, ragged tensors, tuples) is done in the graph of the
pipeline, on tensors that are there already: no feature is computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.shared_batches import Field, batch_fields
from hepdata_adapters.common.transform.pipeline import Transform

Inputs = str | Sequence[str]
RaggedNames = Sequence[str] | Mapping[str, Sequence[str]]
# every whole number up to here, and no further, has a place in the dtype
EXACT = {tf.float32: 2**24, tf.float64: 2**53}


def signature(fields: Iterable[Field]) -> dict[str, Any]:
    """The `tf.TensorSpec` of each array, only the number of events open.

    >>> signature([Field("event", np.dtype(np.int64), (2,))])
    {'event': TensorSpec(shape=(None, 2), dtype=tf.int64, name=None)}
    """
    return {
        field.name: tf.TensorSpec((None, *field.shape), tf.as_dtype(field.dtype))
        for field in fields
    }


@dataclass(frozen=True)
class JaggedColumns:
    """Where a jagged branch lies: ``width`` columns of ``x``, one column of ``lengths``."""

    branch: str
    first: int
    width: int
    number: int


@dataclass(frozen=True)
class Ragged:
    """One ragged tensor: a jagged branch, or several of equal lengths stacked (``stacked``)."""

    name: str
    columns: tuple[JaggedColumns, ...]
    stacked: bool

    def __call__(self, x: Any, lengths: Any) -> Any:
        """``(n, None)``, or ``(n, None, f)`` where stacked, cut out of the padded ``x``."""
        counts = lengths[:, self.columns[0].number]
        for other in self.columns[1:]:
            tf.debugging.assert_equal(
                counts,
                lengths[:, other.number],
                f"ragged group {self.name!r}: {self.columns[0].branch} and {other.branch} have "
                f"different lengths in an event, so they cannot be stacked",
            )
        padded = [x[:, column.first : column.first + column.width] for column in self.columns]
        values = tf.stack(padded, axis=-1) if self.stacked else padded[0]
        kept = tf.boolean_mask(values, tf.sequence_mask(counts, self.columns[0].width))
        # the lengths are ours: nothing to validate
        return tf.RaggedTensor.from_row_lengths(kept, tf.cast(counts, tf.int64), validate=False)


@dataclass(frozen=True)
class Elements:
    """What an element of the dataset is made of; call it with a dict of tensors.

    inputs: for tuples, the one tensor or the tensors of their first item.
    """

    as_: Literal["dict", "tuple"]
    inputs: Inputs
    ragged: tuple[Ragged, ...]
    casts: dict[str, Any]

    @classmethod
    def of(
        cls,
        prepared: Dataset,
        *,
        as_: Literal["dict", "tuple"] = "dict",
        inputs: Inputs | None = None,
        ragged: RaggedNames = (),
        cast: Mapping[str, Any] | None = None,
    ) -> Elements:
        """Check what was asked for against the dataset; raises ConfigError.

        For the arguments see `RootSource.dataset`.
        """
        if isinstance(inputs, Mapping):
            raise ConfigError(
                "inputs names the tensors of a tuple; sets, images and ragged inputs belong into a "
                "DatasetConfig, which goes in place of the samples"
            )
        if as_ not in ("dict", "tuple"):
            raise ConfigError(f"as_ is 'dict' or 'tuple', not {as_!r}")
        fields = {field.name: field for field in batch_fields(prepared)}
        wanted = _ragged(prepared.transform, ragged)
        if as_ == "tuple":
            names = prepared.transform.model_inputs
            if inputs is None:
                inputs = names if prepared.transform.inputs else "x"
            _check_tuple(fields, inputs, with_ragged=bool(wanted))
        elif inputs is not None:
            raise ConfigError("inputs is for as_='tuple'; a dict holds all tensors")
        casts = {
            name: _cast_dtype(prepared, fields, name, dtype) for name, dtype in (cast or {}).items()
        }
        return cls(as_, "x" if inputs is None else inputs, wanted, casts)

    @property
    def as_they_are(self) -> bool:
        """Whether the elements are the batches, so that nothing need be done."""
        return self.as_ == "dict" and not self.ragged and not self.casts

    def __call__(self, batch: Mapping[str, Any]) -> Any:
        """A dict of tensors, or the tuple (inputs, label, weight)."""
        element: dict[str, Any] = {
            name: _cast(name, values, self.casts[name]) if name in self.casts else values
            for name, values in batch.items()
        }
        if self.ragged:
            element["ragged"] = {
                ragged.name: ragged(batch["x"], batch["lengths"]) for ragged in self.ragged
            }
        if self.as_ == "dict":
            return element
        inputs = (
            element[self.inputs]
            if isinstance(self.inputs, str)
            else {name: element[name] for name in self.inputs}
        )
        return inputs, element["label"], element["weight"]


def _check_tuple(fields: Mapping[str, Field], inputs: Inputs, *, with_ragged: bool) -> None:
    if "label" not in fields:
        raise ConfigError(
            "as_='tuple' is (inputs, label, weight), but the samples have no label: give them "
            "one, or take as_='dict'"
        )
    known = [*(fields.keys() - {"label", "weight"}), *(["ragged"] if with_ragged else [])]
    names = [inputs] if isinstance(inputs, str) else list(inputs)
    if not names:
        raise ConfigError("inputs names no tensor")
    for name in names:
        if name == "ragged" and not with_ragged:
            raise ConfigError("inputs names 'ragged': say which branches with ragged=[…]")
        if name not in known:
            raise ConfigError(f"inputs names {name!r}, which is none{nearest(name, known)}")
    if with_ragged and "ragged" not in names:
        raise ConfigError(
            "ragged tensors are asked for, but inputs does not name them: "
            "inputs=['x', 'ragged'], for example"
        )


def _ragged(transform: Transform, wanted: RaggedNames) -> tuple[Ragged, ...]:
    if isinstance(wanted, str):
        raise ConfigError(f"ragged is a list of branches or a dict of such lists, not {wanted!r}")
    if not isinstance(wanted, Mapping):
        return tuple(Ragged(name, (_jagged(transform, name),), stacked=False) for name in wanted)
    groups = []
    for group, names in wanted.items():
        if isinstance(names, str) or not names:
            raise ConfigError(f"ragged group {group!r} is a list of branches, not {names!r}")
        columns = tuple(_jagged(transform, name) for name in names)
        for other in columns[1:]:
            if other.width != columns[0].width:
                raise ConfigError(
                    f"ragged group {group!r}: {columns[0].branch} keeps up to "
                    f"{columns[0].width} values, {other.branch} up to {other.width}; "
                    f"give both the same 'length'"
                )
        groups.append(Ragged(group, columns, stacked=True))
    return tuple(groups)


def _jagged(transform: Transform, name: str) -> JaggedColumns:
    """Where the jagged branch lies; ConfigError for any other name."""
    first, number = 0, 0
    for feature in transform.features:
        if feature.branch == name:
            if feature.kind != "jagged":
                raise ConfigError(
                    f"ragged names {name!r}, which is a {feature.kind} branch: each event has "
                    f"{feature.width} of its values, so it is in 'x' alone"
                )
            return JaggedColumns(name, first, feature.width, number)
        first += feature.columns
        number += feature.kind == "jagged"
    known = [feature.branch for feature in transform.jagged]
    raise ConfigError(f"ragged names {name!r}, which is no jagged feature{nearest(name, known)}")


def _cast_dtype(prepared: Dataset, fields: Mapping[str, Field], name: str, dtype: Any) -> Any:
    """The dtype to cast to; ConfigError where it cannot hold the values."""
    if name not in fields:
        raise ConfigError(f"cast names {name!r}, which no batch has{nearest(name, fields)}")
    try:
        target = tf.as_dtype(dtype)
    except TypeError:
        target = None
    if target not in EXACT:
        raise ConfigError(f"cast of {name!r}: the dtype is float32 or float64, not {dtype!r}")
    bounds = _whole_numbers(prepared, name)
    if bounds and max(-bounds[0], bounds[1]) > EXACT[target]:
        raise ConfigError(
            f"cast of {name!r}: {target.name} is exact for whole numbers up to "
            f"{EXACT[target]:,}, and {name!r} can range from {bounds[0]:,} to {bounds[1]:,}"
        )
    return target


def _whole_numbers(prepared: Dataset, name: str) -> tuple[int, int] | None:
    """The range of the whole numbers that an array holds, None where it holds none."""
    if name == "event":
        limits = np.iinfo(np.int64)
        return int(limits.min), int(limits.max)
    if name != "label":
        return None  # x and weight are floats; lengths and mask are small
    numbers: list[float] = []
    for sample in prepared.config.samples:
        if isinstance(sample.label, str):
            stats = prepared.specs.branches[sample.label]
            if np.dtype(stats.dtype).kind in "iu":
                numbers += [n for n in (stats.minimum, stats.maximum) if n is not None]
        elif sample.label is not None and float(sample.label).is_integer():
            numbers.append(sample.label)
    return (int(min(numbers)), int(max(numbers))) if numbers else None


def _cast(name: str, values: Any, dtype: Any) -> Any:
    """Cast; events outside the training split may exceed the specs, so they are checked here."""
    found = tf.cast(values, dtype)
    if values.dtype.is_floating:
        tiny = np.finfo(dtype.as_numpy_dtype).tiny
        lost = tf.reduce_any((values != 0) & (tf.abs(values) < tf.cast(tiny, values.dtype)))
        tf.debugging.Assert(~lost, [f"cast of {name!r}: too small for {dtype.name}"])
        return tf.debugging.check_numerics(found, f"cast of {name!r}: too large for {dtype.name}")
    tf.debugging.assert_equal(
        tf.cast(found, values.dtype), values, f"cast of {name!r}: not exact in {dtype.name}"
    )
    return found
