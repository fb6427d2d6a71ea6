"""The configuration: samples, features, split and sampling; model and training beside them.

One pydantic model, built in Python or read from YAML (`config_file`). Unknown keys are errors.
"""

from __future__ import annotations

import contextlib
import keyword
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, field_validator, model_validator

from hepdata_adapters.common.config.counts import Events, Streams
from hepdata_adapters.common.config.feature_config import (
    RESERVED,
    Feature,
    FeatureDefaults,
    Finite,
    FunctionScaling,
    Input,
    Name,
    Objects,
    Text,
)
from hepdata_adapters.common.config.split_config import AnySplit, Split
from hepdata_adapters.common.config.training_config import ModelConfig, TrainingConfig
from hepdata_adapters.common.core.frozen_model import FrozenModel

Task = Literal["binary", "multiclass", "regression"]
Framework = Literal["torch", "tf"]
Verify = Literal["none", "size", "checksum"]


def _number_or_name(text: Any) -> Any:
    """A number for text that is one, such as "1e-3": no branch is called so."""
    if isinstance(text, str) and text[:1] in set("0123456789.+-"):
        with contextlib.suppress(ValueError):
            return float(text)
    return text


class Weight(FrozenModel):
    """An event weight: the value of a branch times a constant, either may be left out.

    cross_section in pb, luminosity in 1/pb: the weight is multiplied with their product and
    divided by the sum of the branch over all events of the sample (their number without one), so
    that the sample adds up to the events expected in data.
    """

    branch: str | None = None
    constant: float = Field(default=1.0, allow_inf_nan=False)
    cross_section: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    luminosity: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _both(self) -> Weight:
        if (self.cross_section is None) != (self.luminosity is None):
            raise ValueError("cross_section and luminosity go together")
        return self


class Sample(FrozenModel):
    """A physics process: files, and what all their events have in common.

    files: paths, globs, URLs, each optionally with its tree as ``file.root:tree``.
    label: a number for all events, the name of a branch, or an expression over branches.
    selection: a cut on the events, such as ``nJet >= 4 & max(Jet_pt) > 30`` (see `expressions`).
    weight: a number, the name of a branch (or an expression over branches), or both as
    ``{branch: …, constant: …}``.

    >>> Sample(files="ttH_*.root", tree="Events", label=1).files
    ('ttH_*.root',)
    """

    files: tuple[str, ...] = Field(min_length=1)
    name: str = ""
    tree: str | None = None
    label: Finite | str | None = None
    weight: Weight = Weight()
    selection: str | None = Field(default=None, min_length=1)

    @field_validator("files", mode="before")
    @classmethod
    def _listed(cls, files: Any) -> Any:
        if isinstance(files, str | Path):
            return (str(files),)
        return tuple(map(str, files)) if isinstance(files, list | tuple) else files

    @field_validator("label", mode="before")
    @classmethod
    def _label(cls, label: Any) -> Any:
        return _number_or_name(label)

    @field_validator("weight", mode="before")
    @classmethod
    def _weight(cls, weight: Any) -> Any:
        weight = _number_or_name(weight)
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


_SUFFIXES = ("_mask", "_offsets", "_cells", "_values")


class Sampling(FrozenModel):
    """How events are mixed and shuffled, and how often each comes.

    chunk_size: events mixed together in each stream. The rest is about the training split only.
    balance: ``over`` repeats events of rare classes, ``under`` leaves out events of frequent ones,
    so that the classes have these proportions of the events, whatever these weigh; ``weights``
    scales the weights, so that they have them of the sum of weights.
    proportions: share of each class number; equal by default.
    resample: draw events in proportion to |weight|; each then has the mean of |weight|, its sign
    kept.
    """

    seed: int = 0
    chunk_size: Events = Field(default=8192, ge=1)
    canonical_workers: Streams = Field(default=4, ge=1)
    balance: Literal["none", "over", "under", "weights"] = "none"
    proportions: dict[int, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    resample: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Sampling:
        if self.proportions is not None and self.balance == "none":
            raise ValueError("proportions need balance: over, under or weights")
        if self.resample and self.balance in ("over", "under"):
            raise ValueError(f"resample draws the events itself: it excludes {self.balance!r}")
        return self

    @property
    def changes_composition(self) -> bool:
        """Whether an epoch is something else than each training event once, as it is."""
        return self.resample or self.balance != "none"


DEFAULT_MEMORY = 600 * 2**20


class Reading(FrozenModel):
    """What reading takes: files, memory, threads.

    open_files: files of all samples that a process keeps open. memory: bytes, as a number or such
    as ``2 GiB``, for the chunks of all streams and for decompressed units, of all worker processes
    together; by default `DEFAULT_MEMORY`, and more where the chunks need it. How the plan mixes
    many files depends on it, so a training resumes with the same. threads: that read and transform
    in a process, by default one for each of its cores, and one in a worker process.
    cache: what later epochs find of the earlier ones, as columns that are decompressed and
    prepared: ``none``, ``memory``, or a folder, which later runs find, too. cache_limit: bytes of
    it, such as ``4 GiB``; else half of the memory that is free when the first epoch begins, or
    half of the disk that is free or taken by it.

    >>> Reading(cache="memory", cache_limit="1 GiB").cache_limit
    1073741824
    """

    open_files: int = Field(default=64, ge=1, le=65_536)
    memory: ByteSize | None = Field(default=None, ge=0, le=2**50)
    threads: int | None = Field(default=None, ge=1, le=1024)
    cache: Literal["none", "memory"] | str = "none"
    cache_limit: ByteSize | None = None

    @field_validator("cache", mode="before")
    @classmethod
    def _folder(cls, cache: Any) -> Any:
        cache = str(cache) if isinstance(cache, Path) else cache
        if isinstance(cache, str) and (not cache or "://" in cache):
            raise ValueError(f"none, memory or a folder of this machine, not {cache!r}")
        return cache

    @property
    def cache_folder(self) -> Path | None:
        """The folder that keeps columns, if one does; ``~`` and ``$NAME`` are filled in."""
        if self.cache in ("none", "memory"):
            return None
        return Path(os.path.expandvars(self.cache)).expanduser()


class DatasetConfig(FrozenModel):
    """Everything that decides which events are delivered, and as what.

    objects: which objects of a jagged group stay, and in what order. columns: derived branches
    by name, each an expression. features: the columns of the vector ``x``. inputs: further
    representations by name: sets, images, ragged values. statistics: what the scaling is learnt
    from: training ``events``, each by the absolute value of its ``weights``, or with all
    ``classes`` weighing the same. verify: what of each file is compared with what the first run
    saw: nothing, ``size`` (size, entries, branches, UUID), or ``checksum`` (also the values of
    each read). checksums: a list of adler32 of whole files, compared once. reading: what is kept
    open and decompressed.

    >>> config = DatasetConfig(samples=[Sample(files="a.root", label=1)], features=["MET"])
    >>> config.features
    (Feature(branch='MET', expression=None, scaling=None, clip=None, length=None, \
missing=None, indicator=False, overflow=None),)
    """

    samples: tuple[Sample, ...] = Field(min_length=1)
    objects: dict[Name, Objects] = Field(default={})
    columns: dict[Name, Text] = Field(default={})
    features: Literal["*"] | tuple[Feature, ...] = "*"
    inputs: dict[Name, Input] = Field(default={})
    exclude: tuple[str, ...] = ()
    defaults: FeatureDefaults = FeatureDefaults()
    task: Task | None = None
    statistics: Literal["events", "weights", "classes"] = "events"
    split: AnySplit = Split()
    sampling: Sampling = Sampling()
    reading: Reading = Reading()
    specs: str | None = None
    verify: Verify = "none"
    checksums: str | None = Field(default=None, min_length=1)

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

    @field_validator("inputs")
    @classmethod
    def _input_names(cls, inputs: dict[str, Any]) -> dict[str, Any]:
        for name in inputs:
            if name in RESERVED or any(name.endswith(suffix) for suffix in _SUFFIXES):
                raise ValueError(f"{name!r} is the name of something else in a batch")
            if name.startswith("_") or keyword.iskeyword(name):
                raise ValueError(f"{name!r} cannot be the input of an exported model: rename it")
        return inputs

    @model_validator(mode="after")
    def _something(self) -> DatasetConfig:
        if not self.features and not self.inputs:
            raise ValueError("no features and no inputs: the model would see nothing")
        if self.checksums and self.verify == "none":
            raise ValueError("checksums needs verify: size or checksum")
        return self

    @property
    def derived(self) -> dict[str, str]:
        """The derived columns, those of the features included: expression by name."""
        found = dict(self.columns)
        for feature in self.listed:
            if feature.expression is not None:
                found[feature.branch] = feature.expression
        return found

    @model_validator(mode="after")
    def _one_meaning(self) -> DatasetConfig:
        known = dict(self.columns)
        for feature in self.listed:
            text = feature.expression
            if text is not None and known.setdefault(feature.branch, text) != text:
                raise ValueError(f"{feature.branch!r} has two expressions")
        return self

    @property
    def scaling_functions(self) -> tuple[str, ...]:
        """The user's functions that features name."""
        scalings = (feature.scaling for feature in self.listed)
        return tuple(s.function for s in scalings if isinstance(s, FunctionScaling))

    @property
    def listed(self) -> list[Feature]:
        """All features that are listed, of ``x`` and of the inputs."""
        found = [] if self.features == "*" else list(self.features)
        for given in self.inputs.values():
            found += getattr(given, "features", ())
        return found

    @property
    def labelled(self) -> bool:
        """Whether the samples have labels."""
        return self.samples[0].label is not None


class RunConfig(DatasetConfig):
    """A `DatasetConfig` with the model and its training: what ``fit`` takes.

    framework: of the model; ``torch`` trains with Lightning, ``tf`` with Keras.
    """

    name: str = Field(default="model", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    framework: Framework = "torch"
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
