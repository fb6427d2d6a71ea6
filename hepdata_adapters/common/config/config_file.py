"""Configs from YAML and other plain documents, with errors in the words of the config."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from hepdata_adapters.common.config.dataset_config import (
    Reading,
    RunConfig,
    Sample,
    Sampling,
    Weight,
)
from hepdata_adapters.common.config.feature_config import (
    ConstantScaling,
    Feature,
    FeatureDefaults,
    FunctionScaling,
    ImageAxis,
    ImageInput,
    Objects,
    RaggedInput,
    SetInput,
)
from hepdata_adapters.common.config.plain_yaml import read_yaml, write_yaml
from hepdata_adapters.common.config.split_config import SplitKeys
from hepdata_adapters.common.config.training_config import ModelConfig, TrainingConfig
from hepdata_adapters.common.config.user_code import refuse_code
from hepdata_adapters.common.core.errors import ConfigError, nearest

MAX_CONFIG_BYTES = 1_000_000
_C = TypeVar("_C", bound=BaseModel)
_UNION = re.compile(r"literal\[|tuple\[|constrained-|function-|\w+-scaling$|float$|str$")


def load_config(
    path: str | Path, overrides: Sequence[str] = (), *, user_code: bool = True
) -> RunConfig:
    """Read a YAML file and apply ``key.sub=value`` overrides.

    Relative paths are beside the file; those of overrides are beside the caller. user_code: whether
    the config may name code of its own, see `user_code`.

    Raises ConfigError naming the file and the key.
    """
    path = Path(path)
    document = read_document(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values")
    document = override(_beside(document, path.parent), overrides)
    return _run_config(document, str(path), user_code)


def samples_config(
    files: Sequence[str], overrides: Sequence[str] = (), *, user_code: bool = True
) -> RunConfig:
    """The config of one file a class, in this order, with overrides as in `load_config`.

    Raises ConfigError for a file that is no ROOT file: a config is given alone.

    >>> [sample.label for sample in samples_config(["qcd.root:Events", "tth.root"]).samples]
    [0.0, 1.0]
    """
    for name in files:
        if Path(name).suffix in (".yaml", ".yml"):
            raise ConfigError(
                f"{name} is a config beside other files: give one config alone, whose samples "
                f"name the files"
            )
    samples = [{"files": name, "label": number} for number, name in enumerate(files)]
    document = override({"samples": samples}, overrides)
    return _run_config(document, "the files given", user_code)


def _run_config(document: Mapping[str, Any], source: str, user_code: bool) -> RunConfig:
    config = validated(RunConfig, document, source)
    if not user_code:
        refuse_code(config, source)
    return config


def read_document(path: Path) -> Any:
    """The YAML document of a file. Raises ConfigError for one that is missing, large or no YAML."""
    if re.search(r"\.root(:.+)?$", str(path)):
        raise _no_config(path)
    if not path.is_file():
        raise ConfigError(f"no config file {str(path)!r}")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES:,} bytes")
        content = path.read_bytes()
        if content.startswith(b"root"):
            raise _no_config(path)
        return read_yaml(content.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable as YAML: {_one_line(error)}") from None


def _no_config(path: Path) -> ConfigError:
    """The error for a ROOT file where a config is wanted."""
    name = write_yaml(str(path), flow=True)
    return ConfigError(
        f"{path} is a ROOT file, and not the config that says what to do with it. Write a YAML "
        f"file with the line: samples: [{{files: {name}, label: BRANCH}}] (BRANCH is the one "
        f"with the label; or give a file of each class: hepdata-adapters fit BKG.root SIG.root)"
    )


def validated(kind: type[_C], document: Mapping[str, Any], source: str) -> _C:
    """A config of this kind; raises ConfigError with each wrong key and its reason."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(_reasons(error))}") from None


def override(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Set ``key.sub=value`` in a copy; values are YAML, list items are addressed by number.

    >>> override({"training": {"epochs": 5}}, ["training.epochs=2", "samples.0=x"])
    Traceback (most recent call last):
    ...
    hepdata_adapters.common.core.errors.ConfigError: --set samples.0=x: there is no 'samples'
    """
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not all(path.split(".")):
            raise ConfigError(f"--set {assignment}: write key.sub=value")
        try:
            value = read_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment}: {_one_line(error)}") from None
        target: Any = changed
        *parents, last = path.split(".")
        for parent in parents:
            if isinstance(target, dict):
                target = target.setdefault(parent, {})
            else:
                target = _item(target, parent, assignment)
        if isinstance(target, dict):
            if last.isdecimal():
                reason = f"there is no {'.'.join(parents)!r}" if parents else "write key.sub=value"
                raise ConfigError(f"--set {assignment}: {reason}")
            target[last] = value
        else:
            _item(target, last, assignment)
            target[int(last)] = value
    return changed


def _item(target: Any, number: str, assignment: str) -> Any:
    if not isinstance(target, list) or not number.isdecimal() or int(number) >= len(target):
        raise ConfigError(f"--set {assignment}: there is no item {number!r}")
    return target[int(number)]


def _beside(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document with its relative paths taken from ``folder``; other faults stay."""

    def beside(path: Any) -> Any:
        if isinstance(path, list):
            return [beside(item) for item in path]
        if not isinstance(path, str) or "://" in path or Path(path).is_absolute():
            return path
        if path.startswith(("~", "$")) and not (folder / path).exists():
            return path
        return str(folder / path)

    changed = copy.deepcopy(document)
    samples = changed.get("samples")
    for sample in samples if isinstance(samples, list) else []:
        if isinstance(sample, dict) and "files" in sample:
            sample["files"] = beside(sample["files"])
    for key in ("specs", "checksums"):
        if key in changed:
            changed[key] = beside(changed[key])
    reading = changed.get("reading")
    if isinstance(reading, dict) and reading.get("cache", "none") not in ("none", "memory"):
        reading["cache"] = beside(reading["cache"])
    for holder, key in code_references(changed):
        holder[key] = beside(holder[key])
    return changed


def code_references(document: Any) -> list[tuple[dict[str, Any], str]]:
    """Where a config names a function in a file, ``file.py:function``: mapping and key of each.

    That is ``model.factory``, and ``scaling.function`` of any feature.
    """
    found: list[tuple[dict[str, Any], str]] = []
    waiting = [document]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
            scaling = item.get("scaling")
            for holder, key in ((item.get("model"), "factory"), (scaling, "function")):
                if isinstance(holder, dict) and _in_a_file(holder.get(key)):
                    found.append((holder, key))
    return found


def _in_a_file(name: object) -> bool:
    return isinstance(name, str) and name.rpartition(":")[0].endswith(".py")


def _reasons(error: ValidationError, shown: int = 10) -> list[str]:
    """Each fault in the words of the config; what merely follows from another is left out."""
    faults = [(_place(fault), fault) for fault in map(dict, error.errors(include_url=False))]
    follow = {place[:end] for place, _ in faults for end in range(len(place))}
    own = [(place, fault) for place, fault in faults if place not in follow]
    reasons = list(dict.fromkeys(_reason(place, fault) for place, fault in own[:shown]))
    return [*reasons, f"and {len(own) - shown:,} more"] if len(own) > shown else reasons


def _reason(place: tuple[str, ...], fault: Mapping[str, Any]) -> str:
    name = ".".join(place) or "config"
    if fault["type"] == "extra_forbidden":
        return f"unknown key {name!r}{_hint(place[-1], fault['loc'])}"
    message: str = fault["msg"].removeprefix("Value error, ")
    message = re.sub(r"dictionary or instance of \w+", "mapping", message)
    message = message.replace("tuple", "list").replace("Tuple", "List")
    return f"{name}: {_one_line(message)}"


def _place(fault: Mapping[str, Any]) -> tuple[str, ...]:
    """The path of a key; pydantic's names for the branches of a union are left out."""
    *parents, last = [str(part) for part in fault["loc"]] or [""]
    if parents[:1] == ["inputs"] and parents[2:3] in (["set"], ["image"], ["ragged"]):
        del parents[2]
    kept = [part for part in parents if not _UNION.match(part)]
    if fault["type"] == "extra_forbidden" or not _UNION.match(last):
        kept.append(last)
    return tuple(kept)


def _hint(key: str, location: Sequence[Any]) -> str:
    """The keys nearest to an unknown one, else where it may belong: batch_size into training."""
    beside = nearest(key, _known_keys(location))
    if "did you mean" in beside or len(location) > 1:
        return beside
    inner = ("split", "sampling", "model", "training", "defaults")
    within = nearest(key, [f"{name}.{own}" for name in inner for own in _known_keys([name, key])])
    return within if "did you mean" in within else beside


def _known_keys(location: Sequence[Any]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "samples": Sample, "features": Feature, "defaults": FeatureDefaults, "split": SplitKeys,
        "sampling": Sampling, "reading": Reading, "model": ModelConfig,
        "training": TrainingConfig, "weight": Weight,
        "objects": Objects, "axes": ImageAxis, "set": SetInput, "image": ImageInput,
        "ragged": RaggedInput, "constant-scaling": ConstantScaling,
        "function-scaling": FunctionScaling,
    }  # fmt: skip
    named = [str(part) for part in location[:-1] if str(part) in sections]
    return list((sections[named[-1]] if named else RunConfig).model_fields)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
