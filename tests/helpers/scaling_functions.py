"""Scaling functions of a user, for the tests of scalings."""

from __future__ import annotations

from typing import Any

from hepdata_adapters.common.transform.scalings import Registered
from hepdata_adapters.common.transform.scalings.registered import scaling_function


@scaling_function("test_cube_root", inverse=lambda xp, values: values**3)
def cube_root(xp: Any, values: Any) -> Any:
    return xp.sign(values) * xp.abs(values) ** (1 / 3)


@scaling_function("test_square_root")
def square_root(xp: Any, values: Any) -> Any:
    return xp.sqrt(values)


CUBE_ROOT = Registered(name="test_cube_root")
SQUARE_ROOT = Registered(name="test_square_root")
