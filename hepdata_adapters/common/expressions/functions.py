"""The functions of the language, each written once, for every backend.

A function takes the `Mathematics` of its backend (numpy, torch or TensorFlow) and arrays that
broadcast. Names are matched without regard to case and underscores, so that ROOT's spellings work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hepdata_adapters.common.expressions import kinematics

Takes = Literal["float", "number", "wide", "truth", "choice"]


class Mathematics(Protocol):
    """What a backend computes elementwise: on float64, but for ``where``, ``abs`` and ``mod``."""

    abs: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    log: Callable[[Any], Any]
    log1p: Callable[[Any], Any]
    log2: Callable[[Any], Any]
    log10: Callable[[Any], Any]
    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    tan: Callable[[Any], Any]
    asin: Callable[[Any], Any]
    acos: Callable[[Any], Any]
    atan: Callable[[Any], Any]
    atan2: Callable[[Any, Any], Any]
    sinh: Callable[[Any], Any]
    cosh: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    asinh: Callable[[Any], Any]
    acosh: Callable[[Any], Any]
    atanh: Callable[[Any], Any]
    floor: Callable[[Any], Any]
    ceil: Callable[[Any], Any]
    round: Callable[[Any], Any]
    sign: Callable[[Any], Any]
    isnan: Callable[[Any], Any]
    isfinite: Callable[[Any], Any]
    where: Callable[[Any, Any, Any], Any]
    mod: Callable[[Any, Any], Any]
    pow: Callable[[Any, Any], Any]
    number: Callable[[float], Any]  # a float64 constant; ONNX rounds plain ones to float32
    logical_and: Callable[[Any, Any], Any]
    logical_or: Callable[[Any, Any], Any]
    logical_not: Callable[[Any], Any]


@dataclass(frozen=True)
class Function:
    """An elementwise function.

    compute: of `Mathematics` and one array per argument.
    takes: what the arrays are converted to: ``float`` float64; ``number`` their common dtype, of
    which bool counts as int64; ``wide`` the same with uint64 as float64, so that differences do
    not wrap around; ``truth`` bool; ``choice`` bool for the first and a common dtype for the rest.
    """

    arguments: tuple[str, ...]
    compute: Callable[..., Any]
    takes: Takes = "float"


def _own(name: str, *arguments: str, takes: Takes = "float") -> Function:
    """A function that the backend has under this name."""
    return Function(arguments, lambda m, *values: getattr(m, name)(*values), takes)


def _minimum(m: Mathematics, a: Any, b: Any) -> Any:
    """The smaller one, NaN where one is NaN, as ``np.minimum``."""
    return m.where((a < b) | (a != a), a, b)


def _maximum(m: Mathematics, a: Any, b: Any) -> Any:
    return m.where((a > b) | (a != a), a, b)


def _hypot(m: Mathematics, a: Any, b: Any) -> Any:
    """``sqrt(a² + b²)`` without overflow on the way."""
    a, b = m.abs(a), m.abs(b)
    large, small = _maximum(m, a, b), _minimum(m, a, b)
    alone = (large == 0.0) | (large == math.inf)
    ratio = small / large
    return m.where(alone, large, large * m.sqrt(ratio * ratio + 1.0))


_ONE = (
    "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "floor", "ceil", "round", "isnan",
    "isfinite",
)  # fmt: skip

FUNCTIONS: dict[str, Function] = {
    **{name: _own(name, "x") for name in _ONE},
    "abs": _own("abs", "x", takes="number"),
    "sign": _own("sign", "x"),
    "atan2": _own("atan2", "y", "x"),
    "hypot": Function(("x", "y"), _hypot),
    "pow": _own("pow", "x", "y"),
    "where": _own("where", "condition", "a", "b", takes="choice"),
    "deltaphi": Function(("phi1", "phi2"), kinematics.deltaphi),
    "deltaeta": Function(("eta1", "eta2"), kinematics.deltaeta),
    "deltar": Function(("eta1", "eta2", "phi1", "phi2"), kinematics.deltar),
    "px": Function(("pt", "phi"), kinematics.px),
    "py": Function(("pt", "phi"), kinematics.py),
    "pz": Function(("pt", "eta"), kinematics.pz),
    "energy": Function(("pt", "eta", "phi", "mass"), kinematics.energy),
    "pt": Function(("px", "py"), kinematics.pt),
    "phi": Function(("px", "py"), kinematics.phi),
    "eta": Function(("px", "py", "pz"), kinematics.eta),
    "rapidity": Function(("pt", "eta", "phi", "mass"), kinematics.rapidity),
    "mass": Function(("px", "py", "pz", "energy"), kinematics.mass),
    "invariantmasses": Function(
        ("pt1", "eta1", "phi1", "mass1", "pt2", "eta2", "phi2", "mass2"),
        kinematics.invariant_masses,
    ),
}
"""By name in lower case without underscores."""

OPERATORS: dict[str, Function] = {
    "+": Function(("a", "b"), lambda m, a, b: a + b, "wide"),
    "-": Function(("a", "b"), lambda m, a, b: a - b, "wide"),
    "*": Function(("a", "b"), lambda m, a, b: a * b, "wide"),
    "/": Function(("a", "b"), lambda m, a, b: a / b),
    "**": FUNCTIONS["pow"],
    "%": _own("mod", "a", "b", takes="number"),
    "negative": Function(("a",), lambda m, a: -a, "wide"),
    "positive": Function(("a",), lambda m, a: a, "number"),
    "<": Function(("a", "b"), lambda m, a, b: a < b, "number"),
    "<=": Function(("a", "b"), lambda m, a, b: a <= b, "number"),
    ">": Function(("a", "b"), lambda m, a, b: a > b, "number"),
    ">=": Function(("a", "b"), lambda m, a, b: a >= b, "number"),
    "==": Function(("a", "b"), lambda m, a, b: a == b, "number"),
    "!=": Function(("a", "b"), lambda m, a, b: a != b, "number"),
    "&": _own("logical_and", "a", "b", takes="truth"),
    "|": _own("logical_or", "a", "b", takes="truth"),
    "!": _own("logical_not", "a", takes="truth"),
    "smaller": Function(("a", "b"), _minimum, "number"),
    "larger": Function(("a", "b"), _maximum, "number"),
}
"""What has a sign, or another meaning by its number of arguments (``min(a, b)``)."""

REDUCTIONS = ("sum", "mean", "min", "max", "any", "all", "count", "length", "argmin", "argmax")
"""Of the objects of each event."""

INVARIANT_MASS = "invariantmass"
"""The mass of the sum of all objects: arguments pt, eta, phi, mass."""

ALIASES = {"fabs": "abs", "power": "pow"}


def folded(name: str) -> str:
    """The name under which a function is looked up.

    >>> folded("InvariantMass"), folded("invariant_mass"), folded("Power")
    ('invariantmass', 'invariantmass', 'pow')
    """
    plain = name.lower().replace("_", "")
    return ALIASES.get(plain, plain)


def arities(function: str) -> tuple[int, ...] | None:
    """How many arguments a function may take, None if there is no such function.

    >>> arities("max"), arities("deltar"), arities("system")
    ((1, 2), (4,), None)
    """
    if function in ("min", "max"):
        return (1, 2)
    if function in REDUCTIONS:
        return (1,)
    if function == INVARIANT_MASS:
        return (4,)
    if function == "pi":
        return (0,)
    return (len(FUNCTIONS[function].arguments),) if function in FUNCTIONS else None
