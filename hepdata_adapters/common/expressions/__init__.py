"""Expressions over branches, such as ``nJet >= 4 & max(Jet_pt) > 30``: parsed, never evaluated.

``&``, ``|``, ``!`` (and ``&&``, ``||``, ``and``, ``or``, ``not``) are logical and bind more
weakly than comparisons, as in ROOT; ``TMath::`` may stand before a function. All functions are in
docs/expressions.md. Numbers are float64, int64 or bool, as ROOT computes in double; uint64 keeps
its digits in comparisons and ``%``. hepdata_adapters.torch.transform.expressions and
hepdata_adapters.tf.transform.expressions compute the same inside a graph.

In: text, columns of events. Out: columns of values, the same from every backend. Never: text run as
code, a fault in an event that another event's values cause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.expressions.columnar import NumpyAlgebra
from hepdata_adapters.common.expressions.parser import tree_of
from hepdata_adapters.common.expressions.tree import Node
from hepdata_adapters.common.expressions.walk import Walk

__all__ = ["Expression", "parse"]


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
    tree: Node = field(repr=False)
    names: frozenset[str]

    def __call__(self, columns: Mapping[str, Column]) -> Column:
        """The value of each event ``(n,)``, or of each object (jagged, or ``(n, k)`` of arrays).

        Raises ConfigError where the expression does not fit the kinds of its branches, and
        InvalidValueError where lists of different lengths meet.
        """
        columns = {name: columns[name] for name in sorted(self.names)}
        with np.errstate(all="ignore"):  # what is not a number is no number, and fails any cut
            value = Walk(NumpyAlgebra(columns), columns, self.text).value(self.tree)
        if not isinstance(value, Jagged) and np.ndim(value) == 0:
            raise ConfigError(f"{self.text!r} is the same for all events: it names no branch")
        return value  # type: ignore[no-any-return]

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


def parse(text: str, known: Collection[str]) -> Expression:
    """The expression of a text over the known branches.

    Raises ConfigError naming what is not understood, with the nearest names.
    """
    tree, names = tree_of(text, known)
    return Expression(text, tree, names)
