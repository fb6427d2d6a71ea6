"""The walk over a checked tree, the same for numpy, torch and TensorFlow.

A backend brings an `Algebra`: how it keeps one value an event and several, and a few operations on
them. All rules of the language are here: which dtypes meet how, and what may be asked of what.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions.functions import (
    FUNCTIONS,
    INVARIANT_MASS,
    OPERATORS,
    REDUCTIONS,
    Function,
    Mathematics,
)
from hepdata_adapters.common.expressions.tree import (
    Branch,
    Call,
    Chain,
    Constant,
    Item,
    Node,
    Pick,
)

NumberKind = Literal["b", "i", "u", "f"]
"""bool, int64, uint64 or float64: the dtypes that values have."""


class Algebra(Protocol):
    """One backend. An array is what it computes on; a value is an array ``(n,)``, the lists of n
    events, or a constant: a Python number or an array without dimensions.
    """

    math: Mathematics

    def widened(self, column: Any) -> Any:
        """The column as float64, int64, uint64 or bool."""

    def kind(self, array: Any) -> NumberKind: ...

    def cast(self, array: Any, kind: NumberKind) -> Any:
        """An array or a Python number as an array of this kind."""

    def has_lists(self, value: Any) -> bool:
        """Whether it has several values an event (jagged or ``(n, k)``)."""

    def aligned(self, values: Sequence[Any]) -> tuple[list[Any], Callable[[Any], Any]]:
        """Arrays of the values that broadcast, and what makes a value of such an array.

        A value of an event goes to each of its objects. Raises InvalidValueError, or takes note,
        where lists of different lengths meet.
        """

    def total(self, value: Any) -> Any:
        """The sum of each list of int64 or float64, 0 of none, ``(n,)``."""

    def largest(self, value: Any) -> Any:
        """The largest of each list of float64, NaN of none or where one is NaN, ``(n,)``."""

    def largest_place(self, value: Any) -> Any:
        """The first place of the largest of each list of float64, int64 ``(n,)``.

        NaN is passed over; -1 where there is nothing else.
        """

    def lengths(self, value: Any) -> Any:
        """The length of each list, int64 ``(n,)``."""

    def column(self, value: Any, place: int) -> Any | None:
        """The values at a place of an ``(n, k)`` array; None where it is no such array, or
        too short.
        """

    def at(self, value: Any, places: Any) -> Any:
        """Of each list of float64 the value at its place, NaN where there is none, ``(n,)``.

        places: int64 ``(n,)``, from 0; negative ones are no places.
        """

    def kept(self, value: Any, mask: Any) -> Any:
        """The objects where the mask (lists of bool of the same lengths) is true."""


class Walk:
    """One evaluation of a tree on the columns of n events.

    Raises ConfigError where the tree asks of a column what its kind does not have.
    """

    def __init__(self, algebra: Algebra, columns: Mapping[str, Any], text: str) -> None:
        self._algebra, self._columns, self._text = algebra, columns, text

    def value(self, node: Node) -> Any:
        match node:
            case Constant(value):
                return value
            case Branch(name):
                return self._algebra.widened(self._columns[name])
            case Item(inner, place):
                return self._item(self.value(inner), place)
            case Pick(inner, index):
                return self._picked(self.value(inner), self.value(index))
            case Chain(operators, nodes):
                return self._chain(operators, [self.value(inner) for inner in nodes])
            case Call(function, nodes):
                return self._call(function, [self.value(inner) for inner in nodes])

    def _chain(self, operators: Sequence[str], values: Sequence[Any]) -> Any:
        found: Any = None
        for name, low, high in zip(operators, values[:-1], values[1:], strict=True):
            holds = self._apply(OPERATORS[name], low, high)
            found = holds if found is None else self._apply(OPERATORS["&"], found, holds)
        return found

    def _call(self, function: str, values: list[Any]) -> Any:
        if function == INVARIANT_MASS:
            return self._invariant_mass(*values)
        if function in REDUCTIONS:
            return self._reduced(function, self._lists(values[0], f"{function}(…)"))
        return self._apply(OPERATORS.get(function) or FUNCTIONS[function], *values)

    def _apply(self, function: Function, *values: Any) -> Any:
        """Elementwise; a value of an event goes to each of its objects."""
        arrays, made = self._algebra.aligned(values)
        return made(function.compute(self._algebra.math, *self._converted(function, arrays)))

    def _converted(self, function: Function, arrays: list[Any]) -> list[Any]:
        cast = self._algebra.cast
        match function.takes:
            case "float":
                return [cast(array, "f") for array in arrays]
            case "truth":
                return [self._truth(array) for array in arrays]
            case "choice":
                condition, *choices = arrays
                kind = self._common(choices)
                return [self._truth(condition), *(cast(choice, kind) for choice in choices)]
        common = self._common(arrays)
        kinds: dict[NumberKind, NumberKind] = {"b": "i"}
        if function.takes == "wide":
            kinds["u"] = "f"
        return [cast(array, kinds.get(common, common)) for array in arrays]

    def _truth(self, array: Any) -> Any:
        if self._kind(array) == "b":
            return self._algebra.cast(array, "b")
        return operator.ne(self._algebra.cast(array, "f"), 0.0)

    def _kind(self, array: Any) -> NumberKind:
        if isinstance(array, bool):
            return "b"
        if isinstance(array, int):
            return "i"
        return "f" if isinstance(array, float) else self._algebra.kind(array)

    def _common(self, arrays: Sequence[Any]) -> NumberKind:
        kinds = {self._kind(array) for array in arrays}
        if "f" in kinds:
            return "f"
        if "u" in kinds:  # a plain number such as the 2 of `event % 2` keeps all digits
            signed = (array for array in arrays if self._kind(array) in "bi")
            return "u" if all(isinstance(array, int) and array >= 0 for array in signed) else "f"
        return "i" if "i" in kinds else "b"

    def _floats(self, value: Any) -> Any:
        return self._apply(OPERATORS["*"], value, 1.0)

    def _lists(self, value: Any, what: str) -> Any:
        if isinstance(value, bool | int | float) or not self._algebra.has_lists(value):
            raise ConfigError(f"expression {self._text!r}: {what} needs a jagged or array branch")
        return value

    def _reduced(self, function: str, value: Any) -> Any:
        """One value an event, see docs/expressions.md for those without objects."""
        algebra = self._algebra
        match function:
            case "sum":
                return algebra.total(self._apply(OPERATORS["*"], value, 1))
            case "length":
                return algebra.lengths(value)
            case "count":
                return algebra.total(self._apply(OPERATORS["*"], self._true(value), 1))
            case "any":
                return self._apply(OPERATORS[">"], self._reduced("count", value), 0)
            case "all":
                false = self._apply(OPERATORS["!"], value)
                return self._apply(OPERATORS["=="], self._reduced("count", false), 0)
            case "mean":
                total = self._reduced("sum", value)
                return self._apply(OPERATORS["/"], total, algebra.lengths(value))
            case "max":
                return algebra.largest(self._floats(value))
            case "min":
                turned = self._apply(OPERATORS["negative"], self._floats(value))
                return self._apply(OPERATORS["negative"], algebra.largest(turned))
            case "argmax":
                return algebra.largest_place(self._floats(value))
        turned = self._apply(OPERATORS["negative"], self._floats(value))
        return algebra.largest_place(turned)

    def _true(self, value: Any) -> Any:
        return self._apply(OPERATORS["&"], value, True)

    def _invariant_mass(self, pt: Any, eta: Any, phi: Any, mass: Any) -> Any:
        sums = []
        for part, arguments in {
            "px": (pt, phi), "py": (pt, phi), "pz": (pt, eta), "energy": (pt, eta, phi, mass),
        }.items():  # fmt: skip
            each = self._apply(FUNCTIONS[part], *arguments)
            sums.append(self._reduced("sum", self._lists(each, "invariant_mass(…)")))
        return self._apply(FUNCTIONS["mass"], *sums)

    def _item(self, value: Any, place: int) -> Any:
        self._lists(value, f"[{place}]")
        column = self._algebra.column(value, place)
        if column is not None:
            return column
        places: Any = place
        if place < 0:
            places = self._apply(OPERATORS["+"], self._algebra.lengths(value), place)
        return self._at(value, places)

    def _at(self, value: Any, places: Any) -> Any:
        (whole,), made = self._algebra.aligned([places])
        places = made(self._algebra.cast(whole, "i"))
        return self._algebra.at(self._floats(value), places)

    def _picked(self, value: Any, index: Any) -> Any:
        self._lists(value, "[…]")
        constant = isinstance(index, bool | int | float)
        several = not constant and self._algebra.has_lists(index)
        (array,), _ = self._algebra.aligned([index])
        if several and self._kind(array) == "b":
            return self._algebra.kept(value, index)
        if several or constant or self._kind(array) not in "iu":
            raise ConfigError(
                f"expression {self._text!r}: […] takes a place (a whole number for each event), "
                "or a condition on the objects"
            )
        return self._at(value, index)
