"""weaver's expressions, in Python with numpy and awkward, rewritten in our language.

The text is parsed and never evaluated. Every node is written by a rule below; what has none is
refused with the reason. Brackets go around everything, as precedence differs.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.expressions.functions import arities
from hepdata_adapters.common.expressions.parser import MAX_DEPTH, MAX_LENGTH
from hepdata_adapters.common.weaver.syntax import (
    MODULES,
    UntranslatableError,
    shown,
    syntax_tree,
)

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
_LOGICAL: dict[type[ast.operator], str] = {ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "!="}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_SAME = (
    "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh",
    "tanh", "floor", "ceil", "sign", "hypot",
)  # fmt: skip
FUNCTIONS = {name: name for name in _SAME} | {
    "abs": "abs", "absolute": "abs", "fabs": "abs", "rint": "round", "power": "pow", "pow": "pow",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "asin": "asin", "acos": "acos", "atan": "atan",
    "atan2": "atan2", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh",
}  # fmt: skip
"""Functions of one value at a time: weaver's name to ours."""
REDUCTIONS = {
    "sum": "sum", "mean": "mean", "min": "min", "amin": "min", "max": "max", "amax": "max",
    "any": "any", "all": "all", "count_nonzero": "count", "count": "length", "num": "length",
}  # fmt: skip
_OPERATORS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/",
              "mod": "%", "remainder": "%"}  # fmt: skip
_FOUR_VECTOR = "four-vectors have no equivalent: write pt(px, py), mass(px, py, pz, energy), …"


_NO_FUNCTION = "there is an equivalent only of functions of np, ak and math"


@dataclass(frozen=True)
class Translated:
    """An expression in our language. names: the columns it reads.

    logical: its values are true or false. remarks: where it means something else than before.
    """

    text: str
    names: frozenset[str]
    logical: bool
    remarks: tuple[str, ...] = ()


def translate(text: str, logical: Collection[str] = ()) -> Translated:
    """One of weaver's expressions in our language. logical: columns known to be true or false.

    Raises UntranslatableError with the reason.

    >>> translate("(np.abs(jet_eta) < 2.4) & (ak.sum(part_pt, axis=1) > 30)").text
    '(abs(jet_eta) < 2.4) & (sum(part_pt) > 30)'
    >>> translate("__import__('os')")
    Traceback (most recent call last):
    ...
    hepdata_adapters.common.weaver.syntax.UntranslatableError: __import__(…): there is an \
equivalent only of functions of np, ak and math
    """
    tree = syntax_tree(text)
    reading = _Reading(logical)
    written = reading.value(tree, 0)
    try:
        parse(written.text, reading.names)
    except ConfigError as error:
        raise UntranslatableError(str(error)) from None
    names, remarks = frozenset(reading.names), tuple(dict.fromkeys(reading.remarks))
    return Translated(_unwrapped(written.text), names, written.logical, remarks)


@dataclass(frozen=True)
class _Written:
    text: str
    logical: bool = False


class _Reading:
    """One pass over Python's tree; collects the names of columns, and remarks."""

    def __init__(self, logical: Collection[str]) -> None:
        self._logical = logical
        self.names: set[str] = set()
        self.remarks: list[str] = []

    def value(self, node: ast.expr, depth: int) -> _Written:
        if depth > MAX_DEPTH:
            raise UntranslatableError(f"it is nested more than {MAX_DEPTH} deep")
        written = self._written(node, depth + 1)
        if len(written.text) > MAX_LENGTH:  # some rules write an argument twice
            raise UntranslatableError(f"it becomes longer than {MAX_LENGTH} characters")
        return written

    def _written(self, node: ast.expr, depth: int) -> _Written:
        match node:
            case ast.Constant(value=bool() | int() | float() as number) if _finite(number):
                return _Written(repr(number), isinstance(number, bool))
            case ast.Name(id=name) if name not in MODULES:
                self.names.add(name)
                return _Written(name, name in self._logical)
            case ast.Attribute(value=ast.Name(id=module), attr="pi") if module in MODULES:
                return _Written("pi()")
            case ast.Attribute(value=ast.Name(id=module), attr="e") if module in MODULES:
                return _Written(repr(math.e))
            case ast.Attribute(value=ast.Name(id=name)) if name not in MODULES:
                raise UntranslatableError(f"{shown(node)}: {_FOUR_VECTOR}")
            case ast.UnaryOp(op=ast.Invert() | ast.Not(), operand=operand):
                return _Written(f"(!{self._truth(operand, depth)})", logical=True)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _Written(f"(-{self.value(operand, depth).text})")
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand, depth)
            case ast.BinOp(left=left, op=op, right=right):
                return self._binary(left, op, right, depth)
            case ast.BoolOp(op=op, values=values):
                return self.truths(values, depth, " & " if isinstance(op, ast.And) else " | ")
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                type(op) in _COMPARE for op in ops
            ):
                text = self.value(left, depth).text
                for sign, other in zip(ops, others, strict=True):
                    text += f" {_COMPARE[type(sign)]} {self.value(other, depth).text}"
                return _Written(f"({text})", logical=True)
            case ast.Subscript(value=inner, slice=index):
                return self._subscript(inner, index, depth)
            case ast.Call():
                return self._call(node, depth)
        raise UntranslatableError(f"{shown(node)} has no equivalent")

    def _truth(self, node: ast.expr, depth: int) -> str:
        """Something true or false. A column is taken as such: its type is not known here."""
        written = self.value(node, depth)
        if not written.logical:
            if not isinstance(node, ast.Name):
                raise UntranslatableError(
                    f"{shown(node)} is a number: operations on its bits have no equivalent"
                )
            self.remarks.append(
                f"{node.id} is taken as true where it is not 0; in numpy '&', '|' and '~' of "
                "whole numbers work on their bits"
            )
        return written.text

    def _binary(self, left: ast.expr, op: ast.operator, right: ast.expr, depth: int) -> _Written:
        if type(op) in _LOGICAL:
            one, two = self._truth(left, depth), self._truth(right, depth)
            if isinstance(op, ast.BitXor):  # of truth values, not of numbers
                one, two = f"(!{one})", f"(!{two})"
            return _Written(f"({one} {_LOGICAL[type(op)]} {two})", logical=True)
        a, b = self.value(left, depth), self.value(right, depth)
        if isinstance(op, ast.FloorDiv):
            return _Written(f"floor({a.text} / {b.text})")
        if type(op) not in _BINARY:
            raise UntranslatableError("operations on the bits of numbers have no equivalent")
        if a.logical and b.logical and isinstance(op, ast.Add | ast.Mult):
            # numpy's sum and product of two truth values are a truth value
            sign = "|" if isinstance(op, ast.Add) else "&"
            return _Written(f"({a.text} {sign} {b.text})", logical=True)
        return _Written(f"({a.text} {_BINARY[type(op)]} {b.text})")

    def _subscript(self, inner: ast.expr, index: ast.expr, depth: int) -> _Written:
        value = self.value(inner, depth)
        match index:
            case ast.Tuple(elts=[ast.Slice(lower=None, upper=None, step=None), place]):
                match place:
                    case ast.Constant(value=int(number)) if not isinstance(number, bool):
                        return _Written(f"{value.text}[{number}]")
                    case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
                        return _Written(f"{value.text}[-{number}]")
            case ast.Slice() | ast.Tuple() | ast.Constant():
                pass
            case _:
                mask = self.value(index, depth)
                if mask.logical:
                    return _Written(f"{value.text}[{mask.text}]", value.logical)
        raise UntranslatableError(
            f"…[{shown(index)}] has no equivalent: only [:, 0] and a condition on the objects have"
        )

    def _call(self, node: ast.Call, depth: int) -> _Written:
        match node.func:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in MODULES:
                pass
            case ast.Name(id=("_clip" | "_hash" | "_pad" | "_repeat_pad" | "_stack") as name):
                pass
            case ast.Name(id=name):
                reason = _FOUR_VECTOR if name.startswith("_p4_") else _NO_FUNCTION
                raise UntranslatableError(f"{name[:80]}(…): {reason}")
            case _:
                raise UntranslatableError(f"{shown(node.func)}(…): {_NO_FUNCTION}")
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            raise UntranslatableError(f"{name}(*…) has no equivalent")
        keywords = {keyword.arg or "**": keyword.value for keyword in node.keywords}
        if name in REDUCTIONS:
            return self._reduction(name, node.args, keywords, depth)
        rule = _RULES.get(name)
        if keywords or (rule is None and name not in FUNCTIONS and name not in _OPERATORS):
            what = f" with {next(iter(keywords))}=…" if keywords else ""
            raise UntranslatableError(f"{name[:80]}(…){what} has no equivalent")
        if rule is not None:
            if len(node.args) != rule.arguments:
                raise UntranslatableError(f"{name}(…) takes {rule.arguments} argument(s) here")
            return rule.write(self, node.args, depth)
        texts = [self.value(argument, depth).text for argument in node.args]
        if name in _OPERATORS:
            if len(texts) != 2:
                raise UntranslatableError(f"{name}(…) takes 2 arguments here")
            return _Written(f"({texts[0]} {_OPERATORS[name]} {texts[1]})")
        if len(texts) not in (arities(FUNCTIONS[name]) or ()):
            raise UntranslatableError(f"{name}(…) has no equivalent with {len(texts)} argument(s)")
        return _Written(f"{FUNCTIONS[name]}({', '.join(texts)})")

    def _reduction(
        self, name: str, arguments: list[ast.expr], keywords: dict[str, ast.expr], depth: int
    ) -> _Written:
        axis = keywords.pop("axis", arguments[1] if len(arguments) == 2 else None)
        if not 1 <= len(arguments) <= 2 or keywords:
            raise UntranslatableError(f"{name}(…) has no equivalent with these arguments")
        along = "1" if axis is None and name == "num" else shown(axis) if axis else "none"
        if along not in ("1", "-1"):
            raise UntranslatableError(
                f"{name}(…) with axis {along} is not over the objects of each event, as axis=1 is"
            )
        inner = self.value(arguments[0], depth).text
        return _Written(f"{REDUCTIONS[name]}({inner})", logical=name in ("any", "all"))

    def constant(self, arguments: list[ast.expr], depth: int, value: str) -> _Written:
        """The same number for each value of the first argument."""
        like = self.value(arguments[0], depth).text
        return _Written(f"(({like} != {like}) * 0 + {value})")

    def fill_none(self, arguments: list[ast.expr], depth: int) -> _Written:
        """None comes only from events without objects: `firsts`, the largest, the smallest."""
        inner, other = arguments
        name = inner.func.attr if isinstance(inner, ast.Call) and isinstance(
            inner.func, ast.Attribute) else ""  # fmt: skip
        if not isinstance(inner, ast.Call) or name not in ("firsts", "min", "max"):
            raise UntranslatableError("fill_none(…) has an equivalent only of firsts, min and max")
        value = self.value(other, depth).text
        number = other.operand if isinstance(other, ast.UnaryOp) else other
        if not isinstance(number, ast.Constant):
            raise UntranslatableError("fill_none(…): None can only be replaced by a number")
        written = self.value(inner, depth).text
        lists = self.value(inner.args[0], depth).text
        return _Written(f"where(length({lists}) > 0, {written}, {value})")

    def astype(self, arguments: list[ast.expr], depth: int) -> _Written:
        value = self.value(arguments[0], depth)
        dtype = arguments[1]
        name = str(dtype.value) if isinstance(dtype, ast.Constant) else getattr(dtype, "attr", "")
        if name.startswith("bool"):
            return value if value.logical else _Written(f"({value.text} != 0)", logical=True)
        if not name.startswith(("float", "int", "uint")):
            raise UntranslatableError(f"{shown(dtype)} is no type of numbers")
        if value.logical:
            return _Written(f"({value.text} * 1)")
        if name.startswith("float"):
            return value
        return _Written(f"(sign({value.text}) * floor(abs({value.text})))")

    def each(self, arguments: list[ast.expr], depth: int) -> list[_Written]:
        return [self.value(argument, depth) for argument in arguments]

    def truths(self, arguments: list[ast.expr], depth: int, sign: str) -> _Written:
        return _Written(_joined([self._truth(a, depth) for a in arguments], sign), logical=True)

    def opposite(self, arguments: list[ast.expr], depth: int) -> _Written:
        return _Written(f"(!{self._truth(arguments[0], depth)})", logical=True)

    def where(self, arguments: list[ast.expr], depth: int) -> _Written:
        condition = self._truth(arguments[0], depth)
        yes, no = self.each(arguments[1:], depth)
        return _Written(f"where({condition}, {yes.text}, {no.text})", yes.logical and no.logical)

    def filled(self, arguments: list[ast.expr], depth: int) -> _Written:
        value = self.value(arguments[0], depth).text
        self.remarks.append("nan_to_num leaves infinity as it is here")
        return _Written(f"where(isnan({value}), 0, {value})")

    def form(
        self, arguments: list[ast.expr], depth: int, text: str, *, logical: bool = False
    ) -> _Written:
        """The arguments put into a text with places ``{0}``, ``{1}``, ….

        The arguments are checked before, as a long one may stand there twice.
        """
        texts = [written.text for written in self.each(arguments, depth)]
        return _Written(text.format(*texts), logical)


@dataclass(frozen=True)
class _Rule:
    arguments: int
    write: Callable[[_Reading, list[ast.expr], int], _Written]


def _form(arguments: int, text: str, *, logical: bool = False) -> _Rule:
    return _Rule(arguments, lambda r, a, depth: r.form(a, depth, text, logical=logical))


_RULES: dict[str, _Rule] = {
    "square": _form(1, "({0} * {0})"),
    "negative": _form(1, "(-{0})"),
    "minimum": _form(2, "min({0}, {1})"),
    "maximum": _form(2, "max({0}, {1})"),
    "clip": _form(3, "min(max({0}, {1}), {2})"),
    "_clip": _form(3, "min(max({0}, {1}), {2})"),
    "isnan": _form(1, "isnan({0})", logical=True),
    "isfinite": _form(1, "isfinite({0})", logical=True),
    "isinf": _form(1, "(!isfinite({0}) & !isnan({0}))", logical=True),
    "firsts": _form(1, "{0}[0]"),
    "to_numpy": _Rule(1, lambda r, a, depth: r.value(a[0], depth)),
    "zeros_like": _Rule(1, lambda r, a, depth: r.constant(a, depth, "0")),
    "ones_like": _Rule(1, lambda r, a, depth: r.constant(a, depth, "1")),
    "full_like": _Rule(2, lambda r, a, depth: r.constant(a, depth, r.value(a[1], depth).text)),
    "logical_and": _Rule(2, lambda r, a, depth: r.truths(a, depth, " & ")),
    "logical_or": _Rule(2, lambda r, a, depth: r.truths(a, depth, " | ")),
    "logical_not": _Rule(1, lambda r, a, depth: r.opposite(a, depth)),
    "where": _Rule(3, lambda r, a, depth: r.where(a, depth)),
    "nan_to_num": _Rule(1, lambda r, a, depth: r.filled(a, depth)),
    "fill_none": _Rule(2, lambda r, a, depth: r.fill_none(a, depth)),
    "values_astype": _Rule(2, lambda r, a, depth: r.astype(a, depth)),
}
"""Functions that become something else than a function of one name."""


def _joined(texts: list[str], sign: str) -> str:
    return f"({sign.join(texts)})"


def _unwrapped(text: str) -> str:
    """Without the brackets around all of it."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:-1] if place == len(text) - 1 > 0 and text[0] == "(" else text
    return text


def _finite(number: float) -> bool:
    return isinstance(number, int) or math.isfinite(number)
