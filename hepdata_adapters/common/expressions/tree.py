"""The checked syntax tree of an expression: what every backend walks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """A number of the text; also ``pi``."""

    value: bool | int | float


@dataclass(frozen=True)
class Branch:
    """The column of this name."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function or operator of `functions.FUNCTIONS`, `functions.OPERATORS` or `REDUCTIONS`."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Chain:
    """Comparisons in a row, ``0 < x < 5``: true where all of them are.

    A node of its own, so that the values in the middle are computed once.
    """

    operators: tuple[str, ...]
    values: tuple[Node, ...]


@dataclass(frozen=True)
class Item:
    """``value[place]``: one object of each event; from the end where ``place`` is negative."""

    value: Node
    place: int


@dataclass(frozen=True)
class Pick:
    """``value[index]``: the objects of a mask, or the object at a computed place."""

    value: Node
    index: Node


Node = Constant | Branch | Call | Chain | Item | Pick
