"""A run folder: everything a training leaves behind, and what `evaluate` and `export` need."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, ValidationError

from hepdata_adapters.common.config.config_file import code_references, load_config
from hepdata_adapters.common.config.dataset_config import Framework, RunConfig, Task
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.errors import ConfigError, FileError
from hepdata_adapters.common.core.writing import write_whole
from hepdata_adapters.common.files.open import is_remote
from hepdata_adapters.common.files.source import Source
from hepdata_adapters.common.inference.raw_events import events_from_columns, without_nan
from hepdata_adapters.common.runs.provenance import provenance
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.transform.pipeline import ScoreFunction, Transform
from hepdata_adapters.common.transform.scalings.registered import import_functions

MAX_CLASSES = 10_000
PROVENANCE = "provenance.json"
Model = TypeVar("Model")
_M = TypeVar("_M", bound=BaseModel)


class Outputs(BaseModel):
    """task.json: the task and the names of the outputs."""

    task: Task
    outputs: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class RunParts:
    """What a run folder holds beside the weights."""

    folder: Path
    config: RunConfig
    specs: Specs
    transform: Transform
    task: Task
    class_names: list[str]

    def prepare(self) -> Dataset:
        """The data of the training, checked against the specs."""
        return Dataset.prepare(self.config, self.specs, transform=self.transform)

    @property
    def score_names(self) -> list[str]:
        """Names of the scores: of the classes; of class 1 alone where the task is binary."""
        return self.class_names if self.task == "multiclass" else self.class_names[-1:]


@dataclass(frozen=True, eq=False)
class Run(RunParts, Generic[Model]):
    """A trained model: ``model`` is the framework's own (in eval mode), ``score`` calls it."""

    model: Model
    score: ScoreFunction


def framework_of(folder: str | Path, *, user_code: bool = True) -> Framework:
    """The framework of a run.

    Raises FileError if it is no run folder, ConfigError if it names code and may not.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        raise FileError("not a run folder: it has no config.yaml", file=str(folder))
    return load_config(path, user_code=user_code).framework


def read_parts(folder: str | Path, framework: Framework, weights: str) -> RunParts:
    """Read a run folder of a framework, but for its file ``weights``, which must be there.

    Raises FileError if it is incomplete, ConfigError or SpecsError if a part is corrupt or the
    run is of another framework.
    """
    folder = Path(folder)
    found = framework_of(folder)
    if found != framework:
        raise ConfigError(f"{folder} was trained with framework {found!r}, not {framework!r}")
    for name in ("specs.json", "transform.json", "task.json", weights):
        if not (folder / name).is_file():
            raise FileError(f"not a run folder: it has no {name}", file=str(folder))
    config = load_config(folder / "config.yaml")
    import_functions(config.scaling_functions)
    transform = _read(Transform, folder / "transform.json")
    outputs = _read(Outputs, folder / "task.json")
    specs = Specs.load(folder / "specs.json")
    return RunParts(folder, config, specs, transform, outputs.task, list(outputs.outputs))


def _read(kind: type[_M], path: Path) -> _M:
    """A part of a run folder; raises ConfigError naming the file if it is corrupt."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(f"{path} is corrupt: {error.errors()[0]['msg']}") from None


def save_inputs(folder: Path, config: RunConfig, prepared: Dataset, names: list[str]) -> None:
    """Write what is known before the training: config, provenance, specs, transform, task."""
    document = portable(config, folder)
    write_whole(folder / "config.yaml", write_yaml(document))
    write_json(folder / PROVENANCE, provenance(config, prepared, document))
    prepared.specs.save(folder / "specs.json")
    write_json(folder / "transform.json", prepared.transform.model_dump(mode="json"))
    write_json(folder / "task.json", {"task": prepared.layout.task, "outputs": names})
    write_json(folder / "golden_events.json", without_nan(golden_events(prepared)))


def golden_events(prepared: Dataset, per_file: int = 8, files: int = 4) -> list[dict[str, Any]]:
    """A few raw events of the first files, as a client would send them.

    They travel in exported archives, whose servers refuse to start if they score otherwise.
    """
    transform = prepared.transform
    chosen: list[dict[str, Any]] = []
    for file in [file for file in prepared.manifest.files if file.entries][:files]:
        with Source([branch.name for branch in transform.branches]) as source:
            columns = source.read(file.as_written, 0, min(per_file, file.entries))
        bad = {fault.row for fault in transform.faults(transform.prepare(columns))}
        events = events_from_columns(columns)
        chosen += [event for row, event in enumerate(events) if row not in bad]
    return chosen


def portable(config: RunConfig, folder: Path) -> dict[str, Any]:
    """The config with absolute paths, and the user's own code copied into the run folder."""
    document = config.model_dump(mode="json", exclude_none=True)
    document.pop("specs", None)  # the run has its own
    for sample in document["samples"]:
        sample["files"] = [
            name if is_remote(name) else str(Path(name).absolute()) for name in sample["files"]
        ]
    copied: dict[str, str] = {}
    if "checksums" in document:
        document["checksums"] = str(Path(document["checksums"]).absolute())
    for holder, key in code_references(document):
        home, _, function = holder[key].rpartition(":")
        if home not in copied:
            own = "model.py" if key == "factory" else f"scaling_{len(copied)}.py"
            write_whole(folder / own, Path(home).read_bytes())
            copied[home] = own
        holder[key] = f"{copied[home]}:{function}"
    return document


def num_outputs(task: Task, classes: int) -> int:
    """Outputs of the network of a task."""
    return classes if task == "multiclass" else 1


def output_names(prepared: Dataset) -> list[str]:
    """Names of the classes, or of the regression target: columns and pictures are named so.

    Classes are named after their sample if one sample has that label, else by number; a name
    that two classes would share gets its number.
    """
    samples, labels = prepared.config.samples, prepared.layout.labels
    if prepared.layout.task == "regression":
        return [labels[0] if labels else "label"]
    named: dict[int, list[str]] = {}
    for sample in samples:
        if sample.label is not None and not isinstance(sample.label, str):
            named.setdefault(int(sample.label), []).append(sample.name)
    highest = [int(prepared.specs.branches[name].maximum or 0) for name in labels]
    count = max([2, *(number + 1 for number in (*named, *highest))])
    if prepared.layout.task == "binary" and count > 2:
        raise ConfigError(f"task is binary, but there are {count} classes")
    if count > MAX_CLASSES:
        raise ConfigError(
            f"the labels go up to {count - 1}: {count} classes are more than {MAX_CLASSES}; "
            f"is task: regression meant?"
        )
    default = ["background", "signal"] if count == 2 and not labels else None
    names = []
    for number in range(count):
        own = named.get(number, [])
        name = own[0] if len(own) == 1 else default[number] if default else str(number)
        names.append(re.sub(r"[^\w.+-]+", "_", name.removesuffix(".root")))
    return [
        f"{name}_{number}" if names.count(name) > 1 else name for number, name in enumerate(names)
    ]


def write_json(path: Path, document: Any) -> None:
    """JSON with sorted keys, for people and for diffs."""
    write_whole(path, json.dumps(document, indent=1, sort_keys=True) + "\n")
