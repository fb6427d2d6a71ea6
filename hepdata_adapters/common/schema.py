"""What a tree holds: one `Branch` for each branch of a TTree or field of an RNTuple."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from hepdata_adapters.common.errors import BranchError, TreeError, nearest

Kind = Literal["flat", "array", "jagged", "unsupported"]


@dataclass(frozen=True)
class Branch:
    """A branch: its dtype and kind.

    kind: ``flat`` one number an event; ``array`` a fixed number ``size`` of them; ``jagged`` a
    variable number; ``unsupported`` (strings, objects, nested lists) is named but never read.
    typename: the type in the file. why: what else than its type keeps it from being read.
    """

    name: str
    kind: Kind
    dtype: str = ""
    size: int = 1
    typename: str = ""
    why: str = ""

    @property
    def readable(self) -> bool:
        return self.kind != "unsupported"

    def describe(self) -> str:
        """A short form for people, such as ``float32[]``."""
        if not self.readable:
            why = f", {self.why}" if self.why else ""
            return f"{self.typename or 'unknown type'}{why} (not read)"
        return self.dtype + {"jagged": "[]", "array": f"[{self.size}]"}.get(self.kind, "")


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
    return directory[name]


def is_rntuple(tree: Any) -> bool:
    return "RNTuple" in type(tree).__name__


def read_schema(tree: Any) -> Schema:
    """All branches by name, in the order of the file."""
    branches = _ntuple_branches(tree) if is_rntuple(tree) else _ttree_branches(tree)
    return {branch.name: branch for branch in branches}


def require(schema: Schema, name: str, *, file: str, tree: str) -> Branch:
    """The branch, or a BranchError: it does not exist, or it is of a kind that is not read."""
    if name not in schema:
        readable = [branch.name for branch in schema.values() if branch.readable]
        raise BranchError(f"no branch {name!r}{nearest(name, readable)}", file=file, tree=tree)
    branch = schema[name]
    if not branch.readable:
        raise BranchError(
            f"cannot be read as numbers: {branch.why or f'its type is {branch.typename}'}",
            file=file, tree=tree, branch=name,
        )  # fmt: skip
    return branch


def _ttree_branches(tree: Any) -> Iterable[Branch]:
    for name, branch in tree.iteritems(recursive=True, full_paths=True):
        if branch.branches and not branch.num_baskets:
            continue  # a split object: its members follow
        yield _ttree_branch(name, branch, int(tree.num_entries))


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
    typenames = {name: field.typename for name, field in tree.items()}
    for name, content in zip(form.fields, form.contents, strict=True):
        if name.startswith("_collection") and not typenames.get(name):
            continue  # ROOT's importer projects the members of these into named fields
        yield from _from_form(name, content, typenames)


def _from_form(name: str, form: Any, typenames: dict[str, str]) -> Iterable[Branch]:
    import awkward as ak

    typename = typenames.get(name) or str(form.type)
    inner = (
        form.content if isinstance(form, ak.forms.ListOffsetForm | ak.forms.RegularForm) else None
    )
    if isinstance(form, ak.forms.NumpyForm) and not form.inner_shape:
        yield Branch(name, "flat", form.primitive, typename=typename)
    elif form.parameter("__array__") in ("string", "bytestring"):
        yield Branch(name, "unsupported", typename=typename)
    elif isinstance(inner, ak.forms.NumpyForm) and inner.parameter("__array__") is None:
        if isinstance(form, ak.forms.RegularForm):
            yield Branch(name, "array", inner.primitive, form.size, typename)
        else:
            yield Branch(name, "jagged", inner.primitive, typename=typename)
    elif isinstance(form, ak.forms.RecordForm) and not form.is_tuple:
        for field, content in zip(form.fields, form.contents, strict=True):
            yield from _from_form(f"{name}.{field}", content, typenames)
    elif isinstance(form, ak.forms.ListOffsetForm) and isinstance(inner, ak.forms.RecordForm):
        for field, content in zip(inner.fields, inner.contents, strict=True):
            numeric = isinstance(content, ak.forms.NumpyForm)
            kind: Kind = "jagged" if numeric else "unsupported"
            yield Branch(
                f"{name}.{field}", kind, content.primitive if numeric else "",
                typename=typenames.get(f"{name}.{field}", typename),
            )  # fmt: skip
    else:
        yield Branch(name, "unsupported", typename=typename)


def _native(dtype: Any) -> str:
    return str(np.dtype(dtype).newbyteorder("=").name)
