"""Python's syntax tree of weaver's expressions: read, never run."""

from __future__ import annotations

import ast
import warnings

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions.parser import MAX_LENGTH

MODULES = ("np", "numpy", "math", "ak", "awkward")
"""Names of modules in expressions; all others are columns."""


class UntranslatableError(ConfigError):
    """An expression that has no equivalent; the message is the reason."""


def syntax_tree(text: str) -> ast.expr:
    """Python's tree of an expression. Raises UntranslatableError."""
    if len(text) > MAX_LENGTH:
        raise UntranslatableError(f"it has {len(text):,} characters, at most {MAX_LENGTH} are read")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python reads `1if x` and warns; it means nothing here
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise UntranslatableError("it is no expression in Python") from None


def names_in(text: str) -> frozenset[str]:
    """All names in an expression but those of modules, of an unreadable one none."""
    try:
        nodes = ast.walk(syntax_tree(text))
    except UntranslatableError:
        return frozenset()
    return frozenset(
        node.id for node in nodes if isinstance(node, ast.Name) and node.id not in MODULES
    )


def is_ones(text: str) -> bool:
    """Whether an expression is 1 for each object: how weaver's configs make their masks.

    >>> is_ones("ak.ones_like(part_energy)"), is_ones("part_energy > 0")
    (True, False)
    """
    try:
        tree = syntax_tree(text)
    except UntranslatableError:
        return False
    return (
        isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Attribute)
        and tree.func.attr == "ones_like"
    )


def shown(node: ast.expr) -> str:
    """The text of a node, at most 80 characters."""
    try:
        return ast.unparse(node)[:80]
    except RecursionError:
        return "what it holds"
