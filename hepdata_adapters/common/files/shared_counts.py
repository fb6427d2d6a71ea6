"""Which branches share a count: as a file itself says it, and in all files alike.

A list with a counting branch (``Jet_pt[nJet]``) names that branch; lists of an RNTuple share a
count where they share the column of their offsets. A ``std::vector`` has a length of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hepdata_adapters.common.files.count_rule import SharedCount

if TYPE_CHECKING:
    from hepdata_adapters.common.files.schema import Branch, Place, Schema


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


def shared_counts(schemas: Sequence[Schema], names: Sequence[str]) -> tuple[SharedCount, ...]:
    """What holds of these branches in all files.

    schemas: of the files, which have all of the branches.
    """
    groups: dict[tuple[str, ...], list[Branch]] = {}
    for name in names:
        counts = tuple(schema[name].count for schema in schemas)
        if all(counts):
            groups.setdefault(counts, []).append(schemas[0][name])
    found = (
        SharedCount(
            lists=tuple(branch.name for branch in group if branch.kind == "jagged"),
            counts=tuple(branch.name for branch in group if _is_count(branch)),
        )
        for group in groups.values()
    )
    return tuple(part for count in found if (part := count.restricted(names)))


def _is_count(branch: Branch) -> bool:
    return branch.kind == "flat" and np.dtype(branch.dtype).kind in "iu"


def _walk(parent: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    for number, branch in enumerate(parent.branches):
        yield (*place, number), branch
        yield from _walk(branch, (*place, number))


def _counting(branch: Any) -> Any:
    try:
        return branch.count_branch
    except Exception:  # of leaves that uproot does not know it raises all kinds
        return None
