"""Loops over numbers as machine code: compiled on their first call, and kept on disk.

A kernel takes arrays and numbers and knows nothing else. It is compiled for the dtypes that it is
called with, releases the interpreter lock, and does not check indices: it looks before it reads.

Where a kernel has looked, it counts with `Unsigned`: an index that may be negative, so that it
would count from the end, keeps the loop from being made of vectors, and takes up to five times as
long. (An unsigned and a signed number add up to a float in numba: all of a sum must be unsigned.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numba.core import entrypoints, types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic
from numpy.typing import NDArray

Unsigned = np.uintp
Places: TypeAlias = NDArray[np.uintp]
"""Of some arrays in memory, ``(k, 2)``: the address of each and its length. See `places_of`."""
P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as machine code, of the same results; other kernels may call it.

    It is kept beside its module, else in the user's cache folder (``NUMBA_CACHE_DIR`` moves it);
    where neither can be written, each process compiles it anew, which takes about a second.

    >>> import numpy as np
    >>> @compiled
    ... def total(values):
    ...     found = 0.0
    ...     for value in values:
    ...         found += value
    ...     return found
    >>> total(np.array([1.5, 2.0]))
    3.5
    """
    try:
        kernel = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # there is no place for it, as for functions of no file
        kernel = numba.njit(nogil=True, error_model="numpy")(function)
    compile_for = kernel._compile_for_args

    def compile_without_extensions(*arguments: object, **named: object) -> object:
        with _no_extensions():
            return compile_for(*arguments, **named)

    kernel._compile_for_args = compile_without_extensions
    return cast("Callable[P, R]", kernel)


def places_of(arrays: Sequence[NDArray[Any]]) -> Places:
    """Where the numbers of arrays are: kernels take any number of arrays of one dtype so.

    The arrays have to stay, and to be contiguous: a kernel finds them by `array_at`.

    >>> import numpy as np
    >>> @compiled
    ... def total(places, like):
    ...     found = 0.0
    ...     for number in range(len(places)):
    ...         for value in array_at(places, number, like):
    ...             found += value
    ...     return found
    >>> arrays = [np.array([1.5, 2.0]), np.array([4.0])]
    >>> total(places_of(arrays), arrays[0])
    7.5
    """
    known: dict[int, tuple[int, int]] = {}  # the same offsets may come many times
    for array in arrays:
        if id(array) not in known:
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                raise ValueError("an array that is not contiguous and aligned")
            known[id(array)] = array.__array_interface__["data"][0], array.size
    return np.array([known[id(array)] for array in arrays], np.uintp).reshape(-1, 2)


@compiled
def array_at(places: Places, number: int, like: NDArray[Any]) -> NDArray[Any]:
    """Array ``number`` of those of `places_of`, flat, of the dtype of ``like``; for kernels."""
    found: NDArray[Any] = numba.carray(_pointer(places[number, 0]), places[number, 1], like.dtype)
    return found


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(context: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.uintp), code


@contextmanager
def _no_extensions() -> Iterator[None]:
    """Compile without the extensions of other packages, which numba loads before it compiles.

    That of vector imports sympy: half a second in front of the first batch, for types that no
    kernel has. Functions that users compile load them as ever.
    """
    with global_compiler_lock:
        before = getattr(entrypoints, "_already_initialized", None)
        if before is None:  # another numba, which keeps account of it in another way
            yield
            return
        entrypoints._already_initialized = True
        try:
            yield
        finally:
            entrypoints._already_initialized = before


if hasattr(os, "register_at_fork"):
    # a child that is forked while another thread compiles would wait for that thread for ever
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
