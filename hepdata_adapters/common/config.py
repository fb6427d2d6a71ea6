"""The configuration: samples, features, split, sampling, model and training.

One pydantic model, built in Python or read from YAML (`config_file`). Unknown keys are errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

Scaling = Literal["minmax", "standard", "robust", "none"]
Task = Literal["binary", "multiclass", "regression"]
Framework = Literal["torch", "tf"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _whole(length: float) -> float:
    if length >= 1 and not length.is_integer():
        raise ValueError(f"{length} is neither a quantile below 1 nor a whole number")
    return length


Length = Literal["max"] | Annotated[float, Field(gt=0), AfterValidator(_whole)]
Missing = Literal["error", "mean", "median"] | Finite


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
    """A `DatasetConfig` with the model and its training: what ``fit`` takes.

    framework: of the model; ``torch`` trains with Lightning, ``tf`` with Keras.
    """

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    framework: Framework = "torch"
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
