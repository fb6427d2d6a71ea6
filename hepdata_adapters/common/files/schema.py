"""What a tree holds: one `Branch` for each branch of a TTree or field of an RNTuple."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np

from hepdata_adapters.common.core.errors import BranchError, TreeError, nearest
from hepdata_adapters.common.files.count_branches import (
    Place,
    cardinality,
    offsets_column,
    ttree_counts,
)
from hepdata_adapters.common.files.pages import check_pages

BranchKind = Literal["flat", "array", "jagged", "unsupported"]


@dataclass(frozen=True)
class Branch:
    """A branch: its dtype and kind.

    kind: ``flat`` one number an event; ``array`` a fixed number ``size`` of them; ``jagged`` a
    variable number; ``unsupported`` (strings, objects, nested lists) is named but never read.
    typename: the type in the file. why: what else than its type keeps it from being read. place:
    where its values are: the number of the branch among those of the TTree and, of a member,
    among those of its parent; of an RNTuple the names from the field down to the member.
    namesakes: branches of this very name, of which this one counts. count: of a jagged branch its
    number of values, and of a flat one the number that it is, by a name which all branches of the
    tree with this number have; empty where the file has none. columns: of an RNTuple the numbers of
    its columns: of the values, or of offsets and values.
    """

    name: str
    kind: BranchKind
    dtype: str = ""
    size: int = 1
    typename: str = ""
    place: Place = ()
    namesakes: int = 1
    count: str = ""
    why: str = ""
    columns: tuple[int, ...] = field(default=(), compare=False, repr=False)

    @property
    def readable(self) -> bool:
        return self.kind != "unsupported"

    def describe(self) -> str:
        """A short form for people, such as ``float32[]``."""
        if not self.readable:
            why = f", {self.why}" if self.why else ""
            return f"{self.typename or 'unknown type'}{why} (not read)"
        shape = {"jagged": "[]", "array": f"[{self.size}]"}.get(self.kind, "")
        first = f" (the first of {self.namesakes} of this name)" if self.namesakes > 1 else ""
        return f"{self.dtype}{shape}{first}"


Schema = dict[str, Branch]


def tree_names(directory: Any) -> list[str]:
    """Paths of all TTrees and RNTuples in a file, without cycle numbers."""
    names = directory.classnames(recursive=True, cycle=False)
    return [
        name
        for name, classname in names.items()
        if classname in ("TTree", "TNtuple", "TNtupleD", "TChain") or "RNTuple" in classname
    ]


def get_tree(directory: Any, name: str | None, url: str) -> Any:
    """The named tree, or the only one; raises TreeError naming those there are."""
    names = tree_names(directory)
    if name is None:
        if len(names) != 1:
            there = f"there are: {', '.join(names)}" if names else "there is none"
            hint = "; name one as FILE:TREE" if names else ""
            raise TreeError(f"which tree? {there}{hint}", file=url)
        name = names[0]
    if name not in names:
        raise TreeError(f"no tree {name!r}{nearest(name, names)}", file=url)
    tree = directory[name]
    return check_pages(tree) if is_rntuple(tree) else tree


def is_rntuple(tree: Any) -> bool:
    return "RNTuple" in type(tree).__name__


def read_schema(tree: Any) -> Schema:
    """All branches by name, in the order of the file.

    Where a name comes twice, it is that of a branch of the tree itself rather than of a member,
    and then of the first in the file: as in ROOT and uproot.
    """
    found: dict[str, list[Branch]] = {}
    entries = int(tree.num_entries)
    for branch in _ntuple_branches(tree) if is_rntuple(tree) else _ttree_branches(tree, entries):
        found.setdefault(branch.name, []).append(branch)
    return {
        name: replace(min(branches, key=lambda b: len(b.place) > 1), namesakes=len(branches))
        for name, branches in found.items()
    }


def require(schema: Schema, name: str, *, file: str, tree: str) -> Branch:
    """The branch, or a BranchError: it does not exist, or it is of a kind that is not read."""
    if name not in schema:
        readable = [branch.name for branch in schema.values() if branch.readable]
        hint = _in_full(name, readable) or nearest(name, readable)
        raise BranchError(f"no branch {name!r}{hint}", file=file, tree=tree)
    branch = schema[name]
    if not branch.readable:
        raise BranchError(
            f"cannot be read as numbers: {branch.why or f'its type is {branch.typename}'}",
            file=file, tree=tree, branch=name,
        )  # fmt: skip
    return branch


def _in_full(name: str, known: Iterable[str]) -> str:
    """A hint naming the branches whose last part this is, or that have other separators."""

    def parts(text: str) -> list[str]:
        return [part for part in re.split(r"[/.]", text) if part]

    wanted = parts(name)
    found = [other for other in known if wanted and parts(other)[-len(wanted) :] == wanted]
    if not found:
        return ""
    shown = ", ".join(map(repr, found[:10])) + (", …" if len(found) > 10 else "")
    return f"; give the name in full: {shown}"


def _ttree_branches(tree: Any, entries: int) -> Iterable[Branch]:
    counts = ttree_counts(tree)
    found = _branches_of(tree, entries)
    return [replace(branch, count=counts.get(branch.place, "")) for branch in found]


def _branches_of(parent: Any, entries: int, above: str = "", place: Place = ()) -> Iterable[Branch]:
    for number, branch in enumerate(parent.branches):
        name, here = f"{above}{branch.name}", (*place, number)
        if branch.num_baskets or not branch.branches:  # else a split object: its members follow
            yield replace(_ttree_branch(name, branch, entries), place=here)
        yield from _branches_of(branch, entries, f"{name}/", here)


def _ttree_branch(name: str, branch: Any, entries: int) -> Branch:
    """One branch; whatever uproot makes of it, the others can be read."""
    typename = _typename(branch)
    try:
        found = _from_interpretation(name, typename, branch.interpretation)
    except Exception as error:  # of types that uproot does not know, it raises all kinds
        why = "" if typename else f"uproot cannot tell its type ({type(error).__name__})"
        return Branch(name, "unsupported", typename=typename or "unknown type", why=why)
    if found.readable and branch.num_entries != entries:
        why = f"it was filled in {branch.num_entries:,} of {entries:,} entries"
        return Branch(name, "unsupported", typename=typename, why=why)
    return found


def _typename(branch: Any) -> str:
    """The type in the file, else the leaves of a list that has no name in C++."""
    try:
        return str(branch.typename)
    except Exception:  # such as KeyError of a list of leaves that are arrays
        return ":".join(str(leaf.member("fTitle")) for leaf in branch.member("fLeaves"))


def _from_interpretation(name: str, typename: str, interpretation: Any) -> Branch:
    import uproot

    if type(interpretation) is uproot.AsJagged:
        inner = interpretation.content
        plain = type(inner) is uproot.AsDtype and not inner.to_dtype.shape
        if plain and inner.to_dtype.names is None:
            return Branch(name, "jagged", _native(inner.to_dtype), typename=typename)
    elif type(interpretation) is uproot.AsDtype and interpretation.to_dtype.base.names is None:
        base, shape = interpretation.to_dtype.base, interpretation.to_dtype.shape
        if shape:
            return Branch(name, "array", _native(base), prod(shape), typename)
        return Branch(name, "flat", _native(base), typename=typename)
    return Branch(name, "unsupported", typename=typename)


def _ntuple_branches(tree: Any) -> Iterable[Branch]:
    form = tree.to_akform()
    form = form[0] if isinstance(form, tuple) else form
    typenames: dict[str, str] = {}
    for name, item in tree.items():
        typenames.setdefault(name, item.typename)
    for name, content in zip(form.fields, form.contents, strict=True):
        if name.startswith("_collection") and not typenames.get(name):
            continue  # ROOT's importer projects the members of these into named fields
        yield from _from_form((name,), content, typenames)


def _from_form(place: tuple[str, ...], form: Any, typenames: dict[str, str]) -> Iterable[Branch]:
    import awkward as ak

    name = ".".join(place)
    typename = typenames.get(name) or str(form.type)
    inner = (
        form.content if isinstance(form, ak.forms.ListOffsetForm | ak.forms.RegularForm) else None
    )
    if isinstance(form, ak.forms.NumpyForm) and not form.inner_shape:
        count = cardinality(form)
        columns = () if count else _columns(form)
        yield Branch(name, "flat", form.primitive, 1, typename, place, count=count, columns=columns)
    elif form.parameter("__array__") in ("string", "bytestring"):
        yield Branch(name, "unsupported", typename=typename, place=place)
    elif isinstance(inner, ak.forms.NumpyForm) and inner.parameter("__array__") is None:
        if isinstance(form, ak.forms.RegularForm):
            columns = _columns(inner)
            yield Branch(
                name, "array", inner.primitive, form.size, typename, place, columns=columns
            )
        else:
            count = offsets_column(form)
            columns = _columns(form, inner)
            yield Branch(
                name, "jagged", inner.primitive, 1, typename, place, count=count, columns=columns
            )
    elif isinstance(form, ak.forms.RecordForm) and not form.is_tuple:
        for member, content in zip(form.fields, form.contents, strict=True):
            yield from _from_form((*place, member), content, typenames)
    elif isinstance(form, ak.forms.ListOffsetForm) and isinstance(inner, ak.forms.RecordForm):
        for field, content in zip(inner.fields, inner.contents, strict=True):
            numeric = isinstance(content, ak.forms.NumpyForm)
            kind: BranchKind = "jagged" if numeric else "unsupported"
            yield Branch(
                f"{name}.{field}", kind, content.primitive if numeric else "",
                typename=typenames.get(f"{name}.{field}", typename), place=(*place, field),
                count=offsets_column(form), columns=_columns(form, content) if numeric else (),
            )  # fmt: skip
    else:
        yield Branch(name, "unsupported", typename=typename, place=place)


def _columns(*forms: Any) -> tuple[int, ...]:
    """The numbers of the columns of an RNTuple that forms are of; none where one has none."""
    names = [str(form.form_key or "").partition("column-")[2] for form in forms]
    return tuple(int(name) for name in names) if all(map(str.isdecimal, names)) else ()


def _native(dtype: Any) -> str:
    return str(np.dtype(dtype).newbyteorder("=").name)
