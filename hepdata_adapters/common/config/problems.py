"""Features that do not fit their data: all of a config at once, with the lines that settle them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.feature_config import Feature
from hepdata_adapters.common.config.patterns import matching
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.errors import ConfigError, DataError, HepDataError

SHOWN = 10
_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class FeatureError(ConfigError):
    """A feature that does not fit its data.

    keys: of the feature in the config, with values that settle it. place: ``features``, or
    ``inputs.NAME``.

    >>> print(FeatureError("MET", "holds NaN in 3 events", missing="median"))
    feature 'MET' holds NaN in 3 events. Write: {branch: MET, missing: median}
    """

    def __init__(self, branch: str, reason: str, place: str = "features", **keys: Any) -> None:
        where = "" if place == "features" else f"{place}: "
        line = f". Write: {yaml_line({'branch': branch, **keys})}" if keys else ""
        super().__init__(f"{where}feature {branch!r} {reason}{line}")
        self.branch, self.reason, self.place, self.keys = branch, reason, place, keys

    def at(self, place: str) -> FeatureError:
        """The same in another place of the config."""
        return FeatureError(self.branch, self.reason, place, **self.keys)


class SeveralFaultsError(ConfigError):
    """Several of them, or other faults of the config that came up with them."""

    def __init__(self, errors: Sequence[HepDataError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


class Faults:
    """Errors of a config and its data, kept until all of them are known.

    >>> faults = Faults()
    >>> faults.ask(lambda: int("7"))
    7
    >>> faults.stop()
    """

    def __init__(self) -> None:
        self.errors: dict[str, HepDataError] = {}

    def ask(self, make: Callable[[], _Made]) -> _Made | None:
        """What ``make`` returns, or None where it raises an error of config or data."""
        try:
            return make()
        except SeveralFaultsError as error:
            self.errors |= {str(one): one for one in error.errors}
        except (ConfigError, DataError) as error:
            self.errors[str(error)] = error
        return None

    def stop(self) -> None:
        """Raise what was kept: one error as it is, several as one that has the texts of all."""
        errors = list(self.errors.values())
        if not errors:
            return
        if len(errors) == 1:
            raise errors[0]
        kind = type(errors[0])
        if issubclass(kind, DataError) and all(type(error) is kind for error in errors):
            raise kind("; ".join(self.errors))
        raise SeveralFaultsError(errors)


def each(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> tuple[_Made, ...]:
    """What ``make`` gives of each; raises the errors of all of them as one."""
    faults = Faults()
    found = [faults.ask(partial(_alone, make, item)) for item in items]
    faults.stop()
    return tuple(made for one in found if one is not None for made in one)


def _alone(make: Callable[[_Item], _Made], item: _Item) -> tuple[_Made, ...]:
    return (make(item),)


def told(error: ConfigError, config: DatasetConfig) -> ConfigError:
    """The error in the words of this config: what its author has to write."""
    errors = error.errors if isinstance(error, SeveralFaultsError) else (error,)
    features = [found for found in errors if isinstance(found, FeatureError)]
    if not features:
        return error
    others = [str(found) for found in errors if not isinstance(found, FeatureError)]
    reasons = [f"{found.branch!r} {found.reason}" for found in features[:SHOWN]]
    if len(features) > SHOWN:
        reasons.append(f"and {len(features) - SHOWN} more, all in the line below")
    return ConfigError("; ".join([*others, *reasons, advice(features, config)]))


def advice(features: Sequence[FeatureError], config: DatasetConfig) -> str:
    """What the author of this config has to write about these features."""
    places = dict.fromkeys(found.place for found in features)
    return "; ".join(_advice(config, place, features) for place in places)


def _advice(config: DatasetConfig, place: str, features: Sequence[FeatureError]) -> str:
    own = [found for found in features if found.place == place]
    names = list(dict.fromkeys(found.branch for found in own))
    if place == "features" and config.features == "*":
        line = yaml_line({"exclude": [*config.exclude, *names]}).strip("{}")
        if all("missing" in found.keys for found in own):
            fill = "defaults: {missing: median}"
            return f"fill what is missing with {fill}, or leave it out with {line}"
        return f"leave it out with {line}"
    keys = {name: {k: v for f in own if f.branch == name for k, v in f.keys.items()}
            for name in names}  # fmt: skip
    lines = [yaml_line(_written(config, name) | keys[name]) for name in names if keys[name]]
    lines = list(dict.fromkeys(lines))
    if not lines:
        return f"take it out of {place}"
    list_of = place if place == "features" else f"{place}.features"
    return f"write under {list_of}: {', '.join(lines)}"


def _written(config: DatasetConfig, branch: str) -> dict[str, Any]:
    """The feature as its author wrote it: by its name, or the pattern that means it."""
    for given in config.listed:
        if branch in (given.branch, *matching(given.branch, [branch])):
            return given.model_dump(mode="json", exclude_defaults=True)
    return Feature(branch=branch).model_dump(mode="json", exclude_defaults=True)


def yaml_line(document: dict[str, Any]) -> str:
    """A mapping on one line, as it may stand in a config."""
    return write_yaml(document, flow=True)
