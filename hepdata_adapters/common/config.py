"""The configuration: samples, features, split, sampling, model and training.

One pydantic model, read from YAML or built in Python. Unknown keys are errors.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from hepdata_adapters.common.errors import ConfigError, nearest

Scaling = Literal["minmax", "standard", "robust", "none"]
Task = Literal["binary", "multiclass", "regression"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _whole(length: float) -> float:
    if length >= 1 and not length.is_integer():
        raise ValueError(f"{length} is neither a quantile below 1 nor a whole number")
    return length


Length = Literal["max"] | Annotated[float, Field(gt=0), AfterValidator(_whole)]
Missing = Literal["error", "mean", "median"] | Finite
MAX_CONFIG_BYTES = 1_000_000
_C = TypeVar("_C", bound=BaseModel)
_UNION = re.compile(r"literal\[|tuple\[|constrained-|function-|float$|str$")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weight(_Model):
    """An event weight: the value of a branch times a constant, either may be left out."""

    branch: str | None = None
    constant: float = Field(default=1.0, allow_inf_nan=False)


class Sample(_Model):
    """A physics process: files, and what all their events have in common.

    files: paths, globs, URLs, each optionally with its tree as ``file.root:tree``.
    label: a number for all events, or the name of a branch.
    weight: a number, the name of a branch, or both as ``{branch: …, constant: …}``.

    >>> Sample(files="ttH_*.root", tree="Events", label=1).files
    ('ttH_*.root',)
    """

    files: tuple[str, ...] = Field(min_length=1)
    name: str = ""
    tree: str | None = None
    label: Finite | str | None = None
    weight: Weight = Weight()

    @field_validator("files", mode="before")
    @classmethod
    def _listed(cls, files: Any) -> Any:
        if isinstance(files, str | Path):
            return (str(files),)
        return tuple(map(str, files)) if isinstance(files, list | tuple) else files

    @field_validator("weight", mode="before")
    @classmethod
    def _weight(cls, weight: Any) -> Any:
        if isinstance(weight, str):
            return Weight(branch=weight)
        return Weight(constant=weight) if isinstance(weight, int | float) else weight

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        files = data.get("files") if isinstance(data, dict) else None
        if not files or not isinstance(files, str | Path | list | tuple) or data.get("name"):
            return data  # nothing to name it after: left to the checks of the fields
        first = str(files if isinstance(files, str | Path) else files[0])
        return data | {"name": first.rsplit("/", 1)[-1]}


class Feature(_Model):
    """One branch that the model sees.

    scaling: how values are scaled, by statistics of the training split.
    length: columns of a jagged branch: ``"max"``, a quantile below 1 of the length, or a count.
    missing: what replaces NaN and infinity (``mean`` or ``median`` of the training split, or a
    raw value); the mask is then false. ``error`` refuses them.
    overflow: longer events are truncated to the first ``length`` values, or an error.
    """

    branch: str
    scaling: Scaling | None = None
    length: Length | None = None
    missing: Missing | None = None
    overflow: Literal["truncate", "error"] | None = None


class FeatureDefaults(_Model):
    """What a feature gets where it says nothing itself."""

    scaling: Scaling = "standard"
    length: Length = 0.99
    missing: Missing = "error"
    overflow: Literal["truncate", "error"] = "truncate"


class Split(_Model):
    """Fractions of the events, by a hash of each event's identity.

    identity: ``auto`` takes (run, luminosityBlock, event) where all files have them, else
    ``entry`` (file UUID and entry number); a list names the integer branches to use.
    """

    train: Fraction = 0.64
    validation: Fraction = 0.16
    test: Fraction = 0.20
    seed: int = 0
    identity: Literal["auto", "entry"] | tuple[str, ...] = "auto"

    @model_validator(mode="after")
    def _whole(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, not {total:g}")
        return self


class Sampling(_Model):
    """How events are mixed and shuffled. chunk_size: events mixed together in each stream."""

    seed: int = 0
    chunk_size: int = Field(default=8192, ge=1)
    canonical_workers: int = Field(default=12, ge=1)


class DatasetConfig(_Model):
    """Everything that decides which events are delivered, and as what.

    >>> config = DatasetConfig(samples=[Sample(files="a.root", label=1)], features=["MET"])
    >>> config.features
    (Feature(branch='MET', scaling=None, length=None, missing=None, overflow=None),)
    """

    samples: tuple[Sample, ...] = Field(min_length=1)
    features: Literal["*"] | tuple[Feature, ...] = "*"
    exclude: tuple[str, ...] = ()
    defaults: FeatureDefaults = FeatureDefaults()
    task: Task | None = None
    split: Split = Split()
    sampling: Sampling = Sampling()
    specs: str | None = None

    @field_validator("features", mode="before")
    @classmethod
    def _features(cls, features: Any) -> Any:
        if features == "*" or features == ["*"]:
            return "*"
        if isinstance(features, list | tuple):
            return tuple({"branch": f} if isinstance(f, str) else f for f in features)
        return features

    @field_validator("samples")
    @classmethod
    def _names(cls, samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        labelled = [sample.label is not None for sample in samples]
        if any(labelled) and not all(labelled):
            bare = [sample.name for sample in samples if sample.label is None]
            raise ValueError(f"samples without a label beside labelled ones: {', '.join(bare)}")
        return samples

    @property
    def labelled(self) -> bool:
        """Whether the samples have labels."""
        return self.samples[0].label is not None


class ModelConfig(_Model):
    """The network: the paper's by default, or the user's ``factory(num_features)``.

    factory: ``package.module:function`` or ``file.py:function``.
    """

    factory: str | None = None
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)


class TrainingConfig(_Model):
    """How long and how fast to train. workers: DataLoader processes per split."""

    epochs: int = Field(default=60, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    patience: int = Field(default=10, ge=1)
    workers: int = Field(default=0, ge=0)
    accelerator: str = "auto"
    devices: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)


class RunConfig(DatasetConfig):
    """A `DatasetConfig` with the model and its training: what ``fit`` takes."""

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file and apply ``key.sub=value`` overrides.

    Relative paths are beside the file; those of overrides are beside the caller.

    Raises ConfigError naming the file and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no config file {str(path)!r}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES:,} bytes")
    try:
        document = read_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not readable as YAML: {_one_line(error)}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values")
    document = override(_beside(document, path.parent), overrides)
    return validated(RunConfig, document, str(path))


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
    hepdata_adapters.common.errors.ConfigError: --set samples.0=x: there is no 'samples'
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


def read_yaml(text: str) -> Any:
    """One YAML document of plain values; raises yaml.YAMLError."""
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    except (ValueError, TypeError, LookupError) as error:  # such as !!int abc, 2001-99-99
        raise yaml.YAMLError(f"a value does not fit its type: {error}") from None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases (which can blow up a small file) and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next(name for name in names if names.count(name) > 1)
            raise yaml.YAMLError(f"key {twice!r} stands twice{node.start_mark}")
        return mapping


def _beside(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document with its relative paths taken from ``folder``; other faults stay."""

    def beside(path: Any) -> Any:
        if isinstance(path, list):
            return [beside(item) for item in path]
        if not isinstance(path, str) or "://" in path or Path(path).is_absolute():
            return path
        return str(folder / path)

    changed = copy.deepcopy(document)
    samples = changed.get("samples")
    for sample in samples if isinstance(samples, list) else []:
        if isinstance(sample, dict) and "files" in sample:
            sample["files"] = beside(sample["files"])
    if "specs" in changed:
        changed["specs"] = beside(changed["specs"])
    model = changed.get("model")
    if isinstance(model, dict) and str(model.get("factory")).rpartition(":")[0].endswith(".py"):
        model["factory"] = beside(model["factory"])
    return changed


def _reasons(error: ValidationError, shown: int = 5) -> list[str]:
    """Each fault in the words of the config; what merely follows from another is left out."""
    faults = [(_place(fault), fault) for fault in map(dict, error.errors())]
    reasons = [
        _reason(place, fault)
        for place, fault in faults
        if not any(other[: len(place)] == place and other != place for other, _ in faults)
    ]
    return list(dict.fromkeys(reasons))[:shown]


def _reason(place: tuple[str, ...], fault: Mapping[str, Any]) -> str:
    name = ".".join(place) or "config"
    if fault["type"] == "extra_forbidden":
        return f"unknown key {name!r}{nearest(place[-1], _known_keys(place))}"
    message: str = fault["msg"].removeprefix("Value error, ")
    message = re.sub(r"dictionary or instance of \w+", "mapping", message)
    message = message.replace("tuple", "list").replace("Tuple", "List")
    return f"{name}: {_one_line(message)}"


def _place(fault: Mapping[str, Any]) -> tuple[str, ...]:
    """The path of a key; pydantic's names for the branches of a union are left out."""
    *parents, last = [str(part) for part in fault["loc"]] or [""]
    kept = [part for part in parents if not _UNION.match(part)]
    if fault["type"] == "extra_forbidden" or not _UNION.match(last):
        kept.append(last)
    return tuple(kept)


def _known_keys(location: Sequence[Any]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "samples": Sample, "features": Feature, "defaults": FeatureDefaults, "split": Split,
        "sampling": Sampling, "model": ModelConfig, "training": TrainingConfig, "weight": Weight,
    }  # fmt: skip
    named = [str(part) for part in location[:-1] if str(part) in sections]
    return list((sections[named[-1]] if named else RunConfig).model_fields)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
