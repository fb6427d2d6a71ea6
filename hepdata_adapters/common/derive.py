"""The files of a config as everything after them sees them: objects selected, columns derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from hepdata_adapters.common.columns import Column, Jagged
from hepdata_adapters.common.config import DatasetConfig
from hepdata_adapters.common.errors import BranchError, ConfigError, SchemaError, nearest
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.feature_config import Objects
from hepdata_adapters.common.manifest import FileInfo, Manifest, build_manifest
from hepdata_adapters.common.schema import Branch, Schema
from hepdata_adapters.common.shared_counts import shared_counts
from hepdata_adapters.common.transform.preparation import (
    DerivedColumn,
    ObjectGroup,
    Preparation,
    RawBranch,
)
from hepdata_adapters.common.verify import verified


def scan(config: DatasetConfig) -> Manifest:
    """The manifest of a config, with its objects and derived columns among the branches.

    Raises the errors of `build_manifest` and `verified`, ConfigError for an expression that
    cannot be read or computed, BranchError and SchemaError naming the file that does not fit.
    """
    return derived(config, verified(config, build_manifest(config.samples)))


def derived(config: DatasetConfig, manifest: Manifest) -> Manifest:
    """`scan` for files that are known already."""
    if not config.objects and not config.derived:
        return manifest
    made: dict[tuple[Branch, ...], tuple[Preparation, Schema]] = {}
    files = []
    for file in manifest.files:
        kind = tuple(file.schema.values())
        if kind not in made:
            made[kind] = _prepare(config, file)
        preparation, schema = made[kind]
        files.append(replace(file, preparation=preparation, schema=schema))
    return Manifest(tuple(files))


def common_preparation(manifest: Manifest, names: tuple[str, ...]) -> Preparation:
    """What computes the columns ``names`` in all files, and no more.

    Raises SchemaError where two files would compute them from different branches.
    """
    first = manifest.files[0]
    raw = [manifest.branch(name) for name in first.preparation.needs(names)]
    branches = tuple(map(_raw, raw))
    own = first.preparation.model_copy(update={"branches": branches}).restricted(names)
    counts = shared_counts([file.schema for file in manifest.files], [b.name for b in raw])
    for file in manifest.files[1:]:
        if file.preparation is first.preparation:
            continue
        other = file.preparation.model_copy(update={"branches": branches}).restricted(names)
        if other != own:
            raise SchemaError(
                f"has other members of {', '.join(g.name for g in own.objects)} than {first.url}",
                file=file.url, tree=file.tree,
            )  # fmt: skip
    return own.model_copy(update={"counts": counts})


def _raw(branch: Branch) -> RawBranch:
    kinds: dict[str, Literal["flat", "array", "jagged"]] = {
        "flat": "flat", "array": "array", "jagged": "jagged",
    }  # fmt: skip
    return RawBranch(
        name=branch.name, kind=kinds[branch.kind], dtype=branch.dtype, size=branch.size
    )


def _prepare(config: DatasetConfig, file: FileInfo) -> tuple[Preparation, Schema]:
    """How the branches of a file are prepared, and what comes out."""
    groups = tuple(_group(name, wanted, file) for name, wanted in config.objects.items())
    _refuse_shared(groups)
    columns = _ordered(config.derived, file)
    readable = [branch for branch in file.schema.values() if branch.readable]
    preparation = Preparation(
        branches=tuple(map(_raw, readable)),
        objects=groups,
        columns=tuple(DerivedColumn(name=n, expression=text) for n, text in columns.items()),
    )
    empty = {branch.name: branch.no_events() for branch in preparation.branches}
    members = [member for group in groups for member in group.members]
    found = preparation(empty, [*members, *columns])
    schema = dict(file.schema)
    for name, text in columns.items():
        schema[name] = _branch_of(name, text, found[name])
    return preparation, schema


def _group(name: str, wanted: Objects, file: FileInfo) -> ObjectGroup:
    patterns = wanted.branches or (f"{name}_*", f"{name}.*")
    jagged = [branch.name for branch in file.schema.values() if branch.kind == "jagged"]
    members = tuple(n for n in jagged if any(fnmatchcase(n, pattern) for pattern in patterns))
    if not members:
        raise BranchError(
            f"objects {name}: no jagged branch matches {' or '.join(map(repr, patterns))}"
            f"{nearest(patterns[0], jagged)}",
            file=file.url, tree=file.tree,
        )  # fmt: skip
    group = ObjectGroup(
        name=name,
        members=members,
        selection=wanted.selection,
        sort_by=wanted.sort_by,
        descending=wanted.order == "descending",
    )
    for text in group.expressions:
        _check_known(f"objects {name}", text, set(file.schema), file)
    return group


def _refuse_shared(groups: tuple[ObjectGroup, ...]) -> None:
    owners: dict[str, str] = {}
    for group in groups:
        for member in group.members:
            if member in owners:
                raise ConfigError(
                    f"objects: {member!r} belongs to {owners[member]} and to {group.name}; "
                    f"name the branches of each"
                )
            owners[member] = group.name


def _ordered(columns: Mapping[str, str], file: FileInfo) -> dict[str, str]:
    """The derived columns, each after those that it needs."""
    known = set(file.schema) | set(columns)
    taken = [name for name in columns if name in file.schema]
    if taken:
        raise ConfigError(f"columns: {taken[0]!r} is a branch of {file.url}; choose another name")
    needs = {
        name: _check_known(f"columns.{name}", text, known, file) for name, text in columns.items()
    }
    try:
        order = list(TopologicalSorter({n: sorted(needs[n] & set(columns)) for n in columns})
                     .static_order())  # fmt: skip
    except CycleError as error:
        raise ConfigError(f"columns: {' needs '.join(error.args[1][::-1])}: a circle") from None
    return {name: columns[name] for name in order}


def _check_known(place: str, text: str, known: set[str], file: FileInfo) -> frozenset[str]:
    """The names in an expression, which must be readable branches or derived columns."""
    try:
        names = parse(text, known).names
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    if not names:
        raise ConfigError(f"{place}: {text!r} names no branch")
    for name in sorted(names & file.schema.keys()):
        file.branch(name)
    return names


def _branch_of(name: str, text: str, column: Column) -> Branch:
    dtype = str(column.dtype)
    if isinstance(column, Jagged):
        return Branch(name, "jagged", dtype, typename=f"= {text}")
    if column.ndim == 2:
        return Branch(name, "array", dtype, column.shape[1], f"= {text}")
    return Branch(name, "flat", dtype, typename=f"= {text}")
