"""What a file itself says of counts: which branch or column holds the number of values of a list.

A list with a counting branch (``Jet_pt[nJet]``) names that branch; lists of an RNTuple share a
count where they share the column of their offsets. A ``std::vector`` has a length of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Place = tuple[int | str, ...]
"""Where a branch is: its number among its parent's, below the numbers of its parents."""


def ttree_counts(tree: Any) -> dict[Place, str]:
    """A name for the count of each branch of a TTree that has or is one, by its place."""
    places = {id(branch): place for place, branch in _walk(tree)}
    found: dict[Place, str] = {}
    for place, branch in _walk(tree):
        counting = places.get(id(_counting(branch)))
        if counting is not None:
            found[place] = found[counting] = "branch " + "/".join(map(str, counting))
    return found


def offsets_column(form: Any) -> str:
    """A name for the count of a list in an RNTuple: the column of its offsets, as uproot calls it.

    All lists of a collection share it.
    """
    return str(form.form_key or "")


def cardinality(form: Any) -> str:
    """The count that a number in an RNTuple is (``nJet``), empty for any other number."""
    column, is_count, _ = str(form.form_key or "").partition("-cardinality")
    return column if is_count else ""


def _walk(parent: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    for number, branch in enumerate(parent.branches):
        yield (*place, number), branch
        yield from _walk(branch, (*place, number))


def _counting(branch: Any) -> Any:
    try:
        return branch.count_branch
    except Exception:  # of leaves that uproot does not know it raises all kinds
        return None
