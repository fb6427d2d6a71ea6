"""Expressions over branches, such as ``nJet >= 4 & max(Jet_pt) > 30``: parsed, never evaluated.

The text is parsed into Python's syntax tree and only the nodes named here are let through; they
are then computed on whole columns with numpy. ``&``, ``|``, ``!`` (and ``&&``, ``||``, ``and``,
``or``, ``not``) are logical and bind more weakly than comparisons, as in ROOT; ``TMath::`` may
stand before a function.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.columns import Array, Column, Jagged
from hepdata_adapters.common.errors import ConfigError, nearest

MAX_LENGTH = 4000
MAX_DEPTH = 60
_SPELLING = (
    (re.compile(r"TMath::"), ""),
    (re.compile(r"&&?"), " and "),
    (re.compile(r"\|\|?"), " or "),
    (re.compile(r"!(?!=)|~"), " not "),
)
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
    ast.Pow: lambda a, b: np.power(np.asarray(a, np.float64), b),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "log10": np.log10,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "atan2": np.arctan2, "hypot": np.hypot, "isfinite": np.isfinite,
    "isnan": np.isnan, "floor": np.floor, "ceil": np.ceil,
}  # fmt: skip
_REDUCTIONS = ("sum", "min", "max", "any", "all", "count")
_Value = Column | float | int | bool


@dataclass(frozen=True)
class Expression:
    """A parsed expression. names: the branches it reads.

    >>> cut = parse("sum(Jet_pt) > 50 & nLep == 0", {"Jet_pt", "nLep", "MET"})
    >>> sorted(cut.names)
    ['Jet_pt', 'nLep']
    >>> jets = Jagged.from_lists([[30.0, 25.0], [], [90.0]])
    >>> cut.selects({"Jet_pt": jets, "nLep": np.array([0, 0, 1])}).tolist()
    [True, False, False]
    """

    text: str
    tree: ast.expr
    names: frozenset[str]

    def __call__(self, columns: Mapping[str, Column]) -> Column:
        """The value of each event ``(n,)``, or of each object (jagged).

        Raises ConfigError where jagged branches of different lengths meet.
        """
        with np.errstate(all="ignore"):  # what is not a number is no number, and fails any cut
            value = _Evaluation(columns, self.text).value(self.tree)
        if not isinstance(value, Jagged) and np.ndim(value) == 0:
            raise ConfigError(f"{self.text!r} is the same for all events: it names no branch")
        return value  # type: ignore[return-value]

    def selects(self, columns: Mapping[str, Column]) -> NDArray[np.bool_]:
        """Whether each event passes, ``(n,)``; NaN does not.

        Raises ConfigError for an expression that has several values an event.
        """
        value = self(columns)
        if isinstance(value, Jagged) or value.ndim != 1:
            raise ConfigError(
                f"selection {self.text!r} has a value for each object, not for each event: "
                f"wrap it in any(…), all(…) or count(…)"
            )
        return np.asarray(value.astype(bool) & (value == value))


def parse(text: str, known: set[str] | frozenset[str]) -> Expression:
    """The expression of a text over the known branches.

    Raises ConfigError naming what is not understood, with the nearest names.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"an expression has at most {MAX_LENGTH} characters, not {len(text):,}")
    spelled = text
    for pattern, ours in _SPELLING:
        spelled = pattern.sub(ours, spelled)
    try:
        tree = ast.parse(" ".join(spelled.split()), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ConfigError(f"expression {text[:200]!r} cannot be read") from None
    names: set[str] = set()
    _check(tree, text[:200], known, names, 0)
    return Expression(text, tree, frozenset(names))


def _check(
    node: ast.AST, text: str, known: set[str] | frozenset[str], names: set[str], depth: int
) -> None:
    """Let only what `_Evaluation` computes pass; collect the branches."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"expression {text!r} is nested more than {MAX_DEPTH} deep")
    match node:
        case ast.Constant(value=bool() | int() | float()):
            if isinstance(node.value, int) and abs(node.value) >= 2**63:
                raise ConfigError(f"expression {text!r}: {node.value} does not fit 64 bits")
            return
        case ast.Name() | ast.Attribute():
            names.add(_branch(node, text, known))
            return
        case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]):
            _check_call(function.lower(), len(arguments), text)
        case ast.Subscript(slice=ast.Constant(value=int())):
            arguments = [node.value]
        case ast.BoolOp():
            arguments = node.values
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd()):
            arguments = [node.operand]
        case ast.BinOp() if type(node.op) in _BINARY:
            arguments = [node.left, node.right]
        case ast.Compare() if all(type(op) in _COMPARE for op in node.ops):
            arguments = [node.left, *node.comparators]
        case _:
            raise ConfigError(f"expression {text!r}: {_shown(node)} is not allowed")
    for argument in arguments:
        _check(argument, text, known, names, depth + 1)


def _check_call(function: str, arguments: int, text: str) -> None:
    if function not in _ELEMENTWISE and function not in _REDUCTIONS:
        hint = nearest(function, [*_ELEMENTWISE, *_REDUCTIONS])
        raise ConfigError(f"expression {text!r}: there is no function {function!r}{hint}")
    two = function in ("atan2", "hypot") or (function in ("min", "max") and arguments == 2)
    if arguments != (2 if two else 1):
        raise ConfigError(f"expression {text!r}: {function} takes {2 if two else 1} argument(s)")


def _branch(node: ast.AST, text: str, known: set[str] | frozenset[str]) -> str:
    """The name of a branch, which may have dots."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise ConfigError(f"expression {text!r}: {_shown(node)} is not allowed")
    name = ".".join([node.id, *reversed(parts)])
    if name not in known:
        raise ConfigError(f"expression {text!r}: no branch {name!r}{nearest(name, known)}")
    return name


def _shown(node: ast.AST) -> str:
    try:
        return repr(ast.unparse(node)[:80])
    except RecursionError:
        return "what it holds"


class _Evaluation:
    """One evaluation on the columns of n events."""

    def __init__(self, columns: Mapping[str, Column], text: str) -> None:
        self._columns, self._text = columns, text

    def value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant():
                constant: _Value = node.value  # type: ignore[assignment]
                return constant
            case ast.Name() | ast.Attribute():
                return self._columns[_branch(node, self._text, frozenset(self._columns))]
            case ast.Subscript(value=inner, slice=ast.Constant(value=int(place))):
                return _item(self.value(inner), place)
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return self._apply(np.logical_not, self.value(inner))
            case ast.UnaryOp(op=op, operand=inner):
                sign = -1 if isinstance(op, ast.USub) else 1
                return self._apply(np.multiply, self.value(inner), sign)
            case ast.BinOp(left=left, op=op, right=right):
                return self._apply(_BINARY[type(op)], self.value(left), self.value(right))
            case ast.BoolOp(op=op, values=values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                found = self.value(values[0])
                for other in values[1:]:
                    found = self._apply(join, found, self.value(other))
                return found
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compare(left, ops, others)
            case ast.Call(func=ast.Name(id=function), args=arguments):
                return self._call(function.lower(), [self.value(a) for a in arguments])
        raise AssertionError(node)  # `_check` lets nothing else pass

    def _compare(self, left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr]) -> _Value:
        values = [self.value(left), *map(self.value, others)]
        found = self._apply(_COMPARE[type(ops[0])], values[0], values[1])
        for op, low, high in zip(ops[1:], values[1:-1], values[2:], strict=True):
            found = self._apply(np.logical_and, found, self._apply(_COMPARE[type(op)], low, high))
        return found

    def _call(self, function: str, arguments: list[_Value]) -> _Value:
        if len(arguments) == 2 and function in ("min", "max"):
            return self._apply(np.minimum if function == "min" else np.maximum, *arguments)
        if function in _REDUCTIONS:
            return _reduced(function, arguments[0], self._text)
        return self._apply(_ELEMENTWISE[function], *arguments)

    def _apply(self, function: Callable[..., Any], *values: _Value) -> _Value:
        """Elementwise; a value of an event goes to each of its objects."""
        lists = [value for value in values if isinstance(value, Jagged)]
        if not lists:
            plain: _Value = function(*values)
            return plain
        offsets = lists[0].offsets
        if any(not np.array_equal(other.offsets, offsets) for other in lists[1:]):
            raise ConfigError(
                f"expression {self._text!r} joins jagged branches of different lengths"
            )
        return Jagged(function(*(_objects(value, lists[0]) for value in values)), offsets)


def _objects(value: _Value, like: Jagged) -> Any:
    if isinstance(value, Jagged):
        return value.content
    return np.repeat(value, like.lengths) if isinstance(value, np.ndarray) else value


def _item(value: _Value, place: int) -> Array:
    """Object ``place`` of each event as float64, NaN where there are fewer."""
    if isinstance(value, Jagged):
        found = np.full(len(value), np.nan)
        has = value.lengths > place
        found[has] = value.content[value.offsets[:-1][has] + place]
        return found
    if isinstance(value, np.ndarray) and value.ndim == 2 and place < value.shape[1]:
        return value[:, place]
    raise ConfigError(f"[{place}] needs a jagged branch, or an array branch that long")


def _reduced(function: str, value: _Value, text: str) -> Array:
    """One value an event. Of no objects: sum and count 0, any false, all true, min and max NaN."""
    if isinstance(value, np.ndarray) and value.ndim == 2:
        n, width = value.shape
        value = Jagged(value.reshape(-1), np.arange(n + 1, dtype=np.int64) * width)
    if not isinstance(value, Jagged):
        raise ConfigError(f"expression {text!r}: {function}(…) needs a jagged or array branch")
    starts, filled = value.offsets[:-1], value.lengths > 0
    if function == "count":  # of the objects that are true: count(Jet_pt > 30)
        function, value = "sum", Jagged(value.content.astype(bool).astype(np.int64), value.offsets)
    reduce = {
        "sum": np.add, "min": np.minimum, "max": np.maximum, "any": np.logical_or,
        "all": np.logical_and,
    }[function]  # fmt: skip
    content = value.content
    if function == "sum" and content.dtype.kind in "bf":
        content = content.astype(np.float64)
    empty = {"sum": 0, "min": np.nan, "max": np.nan, "any": False, "all": True}[function]
    dtype = np.float64 if function in ("min", "max") else None
    found = np.full(
        len(filled), empty, dtype or (bool if function in ("any", "all") else content.dtype)
    )
    if filled.any():
        found[filled] = reduce.reduceat(content, starts[filled])
    return found
