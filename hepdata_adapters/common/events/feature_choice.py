"""Which branches the features of a config mean: all there are, patterns, or names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.feature_config import Feature
from hepdata_adapters.common.config.patterns import is_pattern, matching, matching_any
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.errors import BranchError, ConfigError, SchemaError, nearest
from hepdata_adapters.common.files.manifest import FileInfo, Manifest
from hepdata_adapters.common.files.schema import Branch

EXCLUDED = "excluded by the config"


def all_features(
    config: DatasetConfig, manifest: Manifest, reserved: Mapping[str, str]
) -> tuple[list[Feature], dict[str, str]]:
    """What ``"*"`` means: the features, and what is left out with the reason.

    reserved: branches that are no features, with the reason.
    Raises ConfigError for an exclusion that matches nothing, and SchemaError for branches that
    not all files have alike.
    """
    names = dict.fromkeys(name for file in manifest.files for name in file.schema)
    unused = [pattern for pattern in config.exclude if not matching(pattern, names)]
    if unused:
        raise ConfigError(
            "exclude: no branch matches "
            + "; ".join(f"{pattern!r}{nearest(pattern, names)}" for pattern in unused)
        )
    left_out = set(matching_any(config.exclude, names))
    _check_alike(manifest, [n for n in names if n not in left_out and n not in reserved], config)
    chosen, excluded = [], {}
    for name in names:
        if name in reserved:
            excluded[name] = reserved[name]
        elif name in left_out:
            excluded[name] = EXCLUDED
        elif not (branch := manifest.files[0].schema[name]).readable:
            excluded[name] = branch.describe()
        else:
            chosen.append(Feature(branch=name))
    return chosen, excluded


def listed_features(
    config: DatasetConfig, listed: Iterable[Feature], manifest: Manifest, reserved: set[str]
) -> list[Feature]:
    """The features listed; patterns never match the reserved branches."""
    chosen: list[Feature] = []
    first = manifest.files[0]
    for feature in listed:
        if not is_pattern(feature.branch, first.schema):
            chosen.append(feature)
            continue
        left_out = reserved.union(matching_any(config.exclude, first.schema))
        names = [
            name
            for name in matching(feature.branch, first.schema)
            if first.schema[name].readable and name not in left_out
        ]
        if not names:
            raise BranchError(
                f"no branch matches {feature.branch!r}{nearest(feature.branch, first.schema)}",
                file=first.url, tree=first.tree,
            )  # fmt: skip
        chosen += [feature.model_copy(update={"branch": name}) for name in names]
    names = [feature.branch for feature in chosen]
    repeated = [name for number, name in enumerate(names) if name in names[:number]]
    if repeated:
        raise ConfigError(f"features: {repeated[0]!r} is listed twice")
    return chosen


def nothing_left(manifest: Manifest, excluded: Mapping[str, str]) -> ConfigError:
    """The error for a config that leaves the model nothing to see; it says why of each branch."""
    first = manifest.files[0]
    by_reason: dict[str, list[str]] = {}
    for name, reason in excluded.items():
        by_reason.setdefault(reason, []).append(name)
    reasons = "; ".join(f"{_some(names)}: {reason}" for reason, names in by_reason.items())
    return ConfigError(
        f"no features are left of the {len(first.schema)} branches of {first.url}:{first.tree} "
        f"({reasons or 'it has none'})"
    )


def _check_alike(manifest: Manifest, names: list[str], config: DatasetConfig) -> None:
    """Raise one SchemaError for all of these branches that some file has not, or otherwise."""
    reasons: dict[str, str] = {}
    for name in names:
        reason = _unlike(manifest, name)
        if reason is not None:
            reasons[name] = reason
    if not reasons:
        return
    shown = "; ".join(list(reasons.values())[:5])
    more = f"; and {len(reasons) - 5} more branches" if len(reasons) > 5 else ""
    line = write_yaml({"exclude": [*config.exclude, *reasons]}, flow=True).strip("{}")
    raise SchemaError(
        f"the files do not have the same branches: {shown}{more}. List the features, or leave "
        f"out what differs: {line}",
        branch=next(iter(reasons)) if len(reasons) == 1 else None,
    )


def _unlike(manifest: Manifest, name: str) -> str | None:
    holders = [file for file in manifest.files if name in file.schema]
    bare = [file for file in manifest.files if name not in file.schema]
    if bare:
        return f"{_place(holders[0])} has {name}, which {_place(bare[0])} has not"
    first = holders[0]
    branch = first.schema[name]
    for file in holders[1:]:
        other = file.schema[name]
        if _kind(other) != _kind(branch):
            return (
                f"{name} is {other.describe()} in {_place(file)}, but {branch.describe()} in "
                f"{_place(first)}"
            )
    return None


def _kind(branch: Branch) -> tuple[object, ...]:
    return (branch.kind, branch.dtype, branch.size) if branch.readable else (branch.kind,)


def _place(file: FileInfo) -> str:
    return f"{file.url}:{file.tree}"


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
