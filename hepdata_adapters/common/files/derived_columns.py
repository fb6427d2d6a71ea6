"""The files of a config as everything after them sees them: objects selected, columns derived."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from hepdata_adapters.common.config.dataset_config import DatasetConfig, Sample
from hepdata_adapters.common.config.feature_config import Objects
from hepdata_adapters.common.config.patterns import matching_any
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.columns import Column, Jagged
from hepdata_adapters.common.core.errors import BranchError, ConfigError, SchemaError, nearest
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.files.manifest import FileInfo, Manifest, build_manifest
from hepdata_adapters.common.files.preparation import (
    DerivedColumn,
    ObjectGroup,
    Preparation,
    RawBranch,
)
from hepdata_adapters.common.files.schema import Branch, Schema
from hepdata_adapters.common.files.shared_counts import shared_counts
from hepdata_adapters.common.files.verify import verified


def scan(config: DatasetConfig) -> Manifest:
    """The manifest of a config, with its objects and derived columns among the branches.

    Raises the errors of `build_manifest` and `verified`, ConfigError for an expression that
    cannot be read or computed, BranchError and SchemaError naming the file that does not fit.
    """
    return derived(config, verified(config, build_manifest(config.samples)))


def derived(config: DatasetConfig, manifest: Manifest) -> Manifest:
    """`scan` for files that are known already."""
    targets = [
        computed_targets(sample, [file for file in manifest.files if file.sample == number])
        for number, sample in enumerate(config.samples)
    ]
    if not config.objects and not config.derived and not any(targets):
        return manifest
    made: dict[tuple[object, ...], tuple[Preparation, Schema]] = {}
    files = []
    for file in manifest.files:
        columns = config.derived | targets[file.sample]
        kind = (tuple(file.schema.values()), tuple(columns))
        if kind not in made:
            made[kind] = _prepare(config, columns, file)
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


def _prepare(
    config: DatasetConfig, derived: Mapping[str, str], file: FileInfo
) -> tuple[Preparation, Schema]:
    """How the branches of a file are prepared, and what comes out."""
    groups = tuple(_group(name, wanted, derived, file) for name, wanted in config.objects.items())
    _refuse_shared(groups)
    columns = _ordered(derived, file)
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


def _group(name: str, wanted: Objects, derived: Mapping[str, str], file: FileInfo) -> ObjectGroup:
    patterns = wanted.branches or (f"{name}_*", f"{name}.*")
    jagged = [branch.name for branch in file.schema.values() if branch.kind == "jagged"]
    members = tuple(matching_any(patterns, jagged))
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
    for key in ("selection", "sort_by"):
        text = getattr(wanted, key)
        if text is not None:
            _refuse_columns(f"objects.{name}.{key}", key, text, derived, file)
            _check_known(f"objects {name}", text, set(file.schema), file)
    return group


def _refuse_columns(
    place: str, key: str, text: str, derived: Mapping[str, str], file: FileInfo
) -> None:
    """Raise ConfigError for a derived column in what selects objects: it is computed afterwards.

    The message holds the cut with the expressions in the place of their names.
    """
    try:
        names = parse(text, {*file.schema, *derived}).names & derived.keys()
    except ConfigError:
        return  # told by those who read it next
    if names:
        written = write_yaml({key: inlined(text, derived)}, flow=True).strip("{}")
        raise ConfigError(
            f"{place}: columns are computed from the objects that the cut leaves, so it cannot "
            f"use {', '.join(map(repr, sorted(names)))}. Write: {written}"
        )


def inlined(text: str, columns: Mapping[str, str]) -> str:
    """An expression with those of the columns in the place of their names.

    >>> inlined("Jet_pt > 30", {"Jet_pt": "hypot(Jet_px, Jet_py)"})
    '(hypot(Jet_px, Jet_py)) > 30'
    """
    for _ in columns:  # a column may need another one
        text = re.sub(
            r"(?<![\w.])[A-Za-z_]\w*(?![\w.]|\s*\()",
            lambda found: f"({columns[found[0]]})" if found[0] in columns else found[0],
            text,
        )
    return text


def computed_targets(sample: Sample, files: Sequence[FileInfo]) -> dict[str, str]:
    """Label and weight of a sample where they are expressions: columns named by their text."""
    return {
        text: text
        for text in (sample.label, sample.weight.branch)
        if isinstance(text, str) and not re.fullmatch(r"[\w./]+", text)
        and all(text not in file.schema for file in files)
    }  # fmt: skip


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
    known = set(file.schema) | {name for name in columns if name.isidentifier()}
    taken = [name for name in columns if name in file.schema]
    if taken:
        raise ConfigError(f"columns: {taken[0]!r} is a branch of {file.url}; choose another name")
    needs = {
        name: _check_known(
            f"columns.{name}" if name.isidentifier() else "label or weight", text, known, file
        )
        for name, text in columns.items()
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
