"""Values of requests as arrays: nested JSON lists and TensorProtos.

JSON is taken as TF Serving takes it: a float input takes any number and the words NaN and
Infinity, an integer input numbers without point or exponent, a boolean input true and false.
Beyond that, null stands for NaN in a float input, as on all servers of this package.
"""

from __future__ import annotations

import math
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from hepdata_adapters.common.core.columns import Array
from hepdata_serving.tfserving.faults import invalid

MAX_BYTES = 256 * 1024 * 1024
"""Largest tensor of a request; a TensorProto of a few bytes can stand for any size."""

_TAKES: dict[str, tuple[str, set[type]]] = {
    "f": ("numbers", {float, int, type(None)}),
    "i": ("integers", {int}),
    "u": ("integers", {int}),
    "b": ("true or false", {bool}),
}


def from_json(name: str, value: object, dtype: tf.DType) -> Array:
    """A number or nested lists of numbers, all of one size, as an array of this dtype.

    Raises RequestError naming the input, and the instance where a value is of another type.

    >>> from_json("Jet_pt", [[1, 2.5], [float("nan"), None]], tf.float32).tolist()
    [[1.0, 2.5], [nan, nan]]
    """
    kind = np.dtype(dtype.as_numpy_dtype).kind
    if kind not in _TAKES:
        raise invalid(f"input {name!r} takes {dtype.name}, which cannot be sent as JSON here")
    leaves, shape = _flat(name, value)
    words, types = _TAKES[kind]
    if not set(map(type, leaves)) <= types:
        wrong = next(place for place, leaf in enumerate(leaves) if type(leaf) not in types)
        where = f" (instance {wrong // prod(shape[1:])})" if shape else ""
        raise invalid(f"input {name!r} takes {words}, not {_describe(leaves[wrong])}{where}")
    if None in leaves:
        leaves = [math.nan if leaf is None else leaf for leaf in leaves]
    return _array(name, leaves, dtype).reshape(shape)


def from_proto(name: str, proto: TensorProto) -> Array:
    """The array of a tensor in a gRPC request; raises RequestError naming the input."""
    try:
        dtype = tf.as_dtype(proto.dtype)
        sizes = [dim.size for dim in proto.tensor_shape.dim]
        if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
            raise ValueError("its shape is not known")
        if prod(sizes) * max(1, dtype.size) > MAX_BYTES:
            raise ValueError(f"its shape is {sizes}, larger than {MAX_BYTES} bytes")
        values: Array = tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise invalid(f"input {name!r} is no tensor: {error}") from error
    return values


def _flat(name: str, value: object) -> tuple[list[Any], tuple[int, ...]]:
    """The numbers in nested lists, and the shape, which the first element of each list sets.

    Whole levels are looked at with functions that run in C: a request holds many numbers.
    """
    leaves: list[Any] = [value]
    shape: list[int] = []
    while list in (types := set(map(type, leaves))):
        if types != {list}:
            raise invalid(f"input {name!r} mixes lists and numbers")
        sizes = set(map(len, leaves))
        if len(sizes) > 1:
            raise invalid(
                f"input {name!r} has lists of {min(sizes)} and of {max(sizes)} values; pad them "
                "to one length"
            )
        shape.append(sizes.pop())
        leaves = list(chain.from_iterable(leaves))
    return leaves, tuple(shape)


def _array(name: str, leaves: list[Any], dtype: tf.DType) -> Array:
    numpy_dtype = np.dtype(dtype.as_numpy_dtype)
    if numpy_dtype.kind in "iu" and leaves:
        limits = np.iinfo(numpy_dtype)
        for value in (min(leaves), max(leaves)):
            if not limits.min <= value <= limits.max:
                raise _out_of_range(name, value, dtype)
    try:
        with np.errstate(over="ignore"):
            values = np.array(leaves, np.float64 if numpy_dtype.kind == "f" else numpy_dtype)
            array = values.astype(numpy_dtype)
    except OverflowError:
        raise _out_of_range(name, max(leaves, key=abs), dtype) from None
    if numpy_dtype.kind == "f" and (infinite := np.isinf(array) & np.isfinite(values)).any():
        raise _out_of_range(name, values[infinite][0], dtype)
    return array


def _out_of_range(name: str, value: object, dtype: tf.DType) -> Exception:
    return invalid(f"input {name!r}: {str(value)[:40]} is not in the range of {dtype.name}")


def _describe(value: object) -> str:
    """A JSON value in a few words.

    >>> _describe({"b64": "AAAA"}), _describe(None), _describe(1.5), _describe(math.nan)
    ('an object', 'null', '1.5', 'NaN')
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return "a string"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else repr(value)[:40]
