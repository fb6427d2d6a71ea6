"""Text to a checked syntax tree: parsed with Python's grammar, never evaluated.

Only what is named here passes. The work is bounded: a text has at most `MAX_LENGTH` characters
and a tree is at most `MAX_DEPTH` deep; constants are only computed later, in float64.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Collection, Mapping

from hepdata_adapters.common.core.errors import ConfigError, nearest
from hepdata_adapters.common.expressions.functions import FUNCTIONS, REDUCTIONS, arities, folded
from hepdata_adapters.common.expressions.spelling import pythonic, without_slashes
from hepdata_adapters.common.expressions.tree import (
    Branch,
    Call,
    Chain,
    Constant,
    Item,
    Node,
    Pick,
)

MAX_LENGTH = 4000
MAX_DEPTH = 60
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Pow: "**",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], str] = {
    ast.Not: "!", ast.USub: "negative", ast.UAdd: "positive",
}  # fmt: skip


def tree_of(text: str, known: Collection[str]) -> tuple[Node, frozenset[str]]:
    """The tree of a text over the known branches, and the branches that it names.

    Raises ConfigError naming what is not understood, with the nearest names.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"an expression has at most {MAX_LENGTH} characters, not {len(text):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python reads `1if x` and warns; it means nothing here
            written, members = without_slashes(text, known)
            parsed = ast.parse(" ".join(pythonic(written).split()), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ConfigError(f"expression {text[:200]!r} cannot be read") from None
    reading = _Reading(text[:200], known, members)
    return reading.node(parsed, 0), frozenset(reading.names)


class _Reading:
    """One pass over Python's tree; collects the names of branches."""

    def __init__(self, text: str, known: Collection[str], members: Mapping[str, str]) -> None:
        self._text, self._known, self._members = text, known, members
        self.names: set[str] = set()

    def node(self, node: ast.expr, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ConfigError(f"expression {self._text!r} is nested more than {MAX_DEPTH} deep")

        def below(*nodes: ast.expr) -> tuple[Node, ...]:
            return tuple(self.node(inner, depth + 1) for inner in nodes)

        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return self._constant(value)
            case ast.Name() | ast.Attribute():
                return self._branch(node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                function = self._function(name, len(arguments))
                return (
                    function
                    if isinstance(function, Constant)
                    else Call(function, below(*arguments))
                )
            case ast.Subscript(value=value, slice=index):
                return self._subscript(value, index, depth)
            case ast.IfExp(test=test, body=yes, orelse=no):
                return Call("where", below(test, yes, no))
            case ast.BoolOp(op=op, values=values):
                joined, *others = below(*values)
                for other in others:
                    joined = Call("&" if isinstance(op, ast.And) else "|", (joined, other))
                return joined
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return Call(_UNARY[type(op)], below(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return Call(_BINARY[type(op)], below(left, right))
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                type(op) in _COMPARE for op in ops
            ):
                return Chain(tuple(_COMPARE[type(op)] for op in ops), below(left, *others))
        raise self._refused(node)

    def _constant(self, value: bool | int | float) -> Constant:
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ConfigError(f"expression {self._text!r}: {value} does not fit 64 bits")
        return Constant(value)

    def _branch(self, node: ast.expr) -> Branch:
        """A branch, whose name may have dots."""
        parts: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self._refused(node)
        name = ".".join([inner.id, *reversed(parts)])
        name = self._members.get(name, name)
        if name not in self._known:
            hint = nearest(name, self._known)
            raise ConfigError(f"expression {self._text!r}: no branch {name!r}{hint}")
        self.names.add(name)
        return Branch(name)

    def _function(self, name: str, arguments: int) -> str | Constant:
        """What a call is in the tree: `pi` is a constant, and ``min(a, b)`` no reduction."""
        function = folded(name)
        takes = arities(function)
        if takes is None:
            hint = nearest(name, [*FUNCTIONS, *REDUCTIONS])
            raise ConfigError(f"expression {self._text!r}: there is no function {name!r}{hint}")
        if arguments not in takes:
            raise ConfigError(
                f"expression {self._text!r}: {name} takes {' or '.join(map(str, takes))} "
                f"argument(s){_signature(function)}, not {arguments}"
            )
        if function == "pi":
            return Constant(math.pi)
        if function in ("min", "max") and arguments == 2:
            return "smaller" if function == "min" else "larger"
        return function

    def _subscript(self, value: ast.expr, index: ast.expr, depth: int) -> Node:
        inner = self.node(value, depth + 1)
        match index:
            case ast.Constant(value=int(place)) if not isinstance(place, bool):
                return Item(inner, int(self._constant(place).value))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(place))) if place:
                return Item(inner, -int(self._constant(place).value))
            case ast.Constant():
                raise self._refused(index)
        return Pick(inner, self.node(index, depth + 1))

    def _refused(self, node: ast.expr) -> ConfigError:
        try:
            shown = repr(ast.unparse(node)[:80])
        except RecursionError:
            shown = "what it holds"
        return ConfigError(f"expression {self._text!r}: {shown} is not allowed")


def _signature(function: str) -> str:
    names = FUNCTIONS[function].arguments if function in FUNCTIONS else ()
    return f" ({', '.join(names)})" if len(names) > 1 else ""
