"""What torch and TensorFlow each bring to the representations of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import Expression
from hepdata_adapters.common.expressions.functions import Mathematics
from hepdata_adapters.common.transform.image import ImageTransform

Maker = TypeVar("Maker")


class TensorBackend(Protocol):
    """Primitives on tensors of n events, padded to m objects, beside the operators of Python.

    A graph cannot raise where it is made: bad events are handed to ``refuse``, ``refuse_columns``
    and ``check_lengths``. The parts of a message may be tensors ``(n,)``, of which it tells what
    they hold for the event.

    padded: the class of a jagged column, ``values (n, m)`` and ``lengths (n,)`` int64.
    """

    math: Mathematics
    padded: Any
    evaluate: Callable[[Expression, Mapping[str, Any]], Any]  # of each event, or `padded`
    cast: Callable[[Any, str], Any]  # to a dtype by its numpy name
    stack: Callable[..., Any]  # tensors along a new axis
    expand: Callable[..., Any]  # by a new axis of size 1
    width: Callable[[Any], Any]  # m of (n, m, ...)
    places: Callable[[Any, Any], Any]  # 0, 1, ... of a width, int64, on the device of a tensor
    fitted: Callable[[Any, Any], Any]  # cut, or padded with zeros, to a width
    upwards: Callable[[Any], Any]  # places (n, m) of the values of each row; equal ones in order
    gather: Callable[[Any, Any], Any]  # the values (n, m) at places (n, m)
    count: Callable[[Any], Any]  # how many flags of each row are set, (n,) int64
    fmod: Callable[..., Any]  # the exact remainder, with the sign of the first
    last_not_above: Callable[[Any, Any], Any]  # values, edges: a bin for each, int64
    cell_sums: Callable[[Any, Sequence[Any], Any, ImageTransform], Any]  # see `dense_image`
    images: Callable[[Any, ImageTransform], Any]  # of what ``cell_sums`` gave, (n, *shape)
    refuse: Callable[..., None]  # flags (n,) or (n, ...), *parts of the message
    refuse_columns: Callable[..., None]  # flags (n, m, f), present (n, m), names of f, reason
    check_lengths: Callable[[Mapping[str, Any]], None]  # equal, and such as their rows can have


def maker_of(name: str, transform: Any, makers: Mapping[type, Maker]) -> Maker:
    """What makes the representation. Raises ConfigError naming one without a dense tensor."""
    sparse = getattr(transform, "sparse", False)
    maker = None if sparse else makers.get(type(transform))
    if maker is None:
        raise ConfigError(
            f"inputs: {name!r} is {'sparse' if sparse else transform.kind}, and a graph has dense "
            "tensors only: use a set, or an image that is not sparse"
        )
    return maker
