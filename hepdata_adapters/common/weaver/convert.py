"""weaver's data config as a config of ours, and the list of what has no equivalent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hepdata_adapters.common.config.config_file import validated
from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.weaver.config import WeaverConfig, weaver_config
from hepdata_adapters.common.weaver.inputs import Inputs, convert_inputs
from hepdata_adapters.common.weaver.notes import Note, one_line
from hepdata_adapters.common.weaver.syntax import UntranslatableError
from hepdata_adapters.common.weaver.variables import Variables, variables_of

PLACEHOLDER = "PUT-YOUR-FILES-HERE.root"
LABEL, WEIGHT = "_label_", "_weight_"
TERMS = 16
"""Terms of one sum; longer ones are sums of sums, as an expression may not be too deep."""
_REWEIGHTING = (
    "reweighting by histograms has no equivalent; sampling: {balance: over} (or under, weights) "
    "gives the classes equal shares, but does not make them alike in any variable"
)


@dataclass(frozen=True)
class Conversion:
    """document: what `RunConfig` takes. notes: what is left out, or means something else."""

    document: dict[str, Any]
    notes: tuple[Note, ...]

    def yaml(self, source: str) -> str:
        """The config as YAML, with the notes as comments at its top."""
        lines = [f"Converted from weaver's {source}.", *map(str, self.notes)]
        comments = "".join(f"# {one_line(line)}\n" for line in lines)
        lists = ("samples", "features", "inputs")
        return comments + "".join(
            write_yaml({key: value}, flow=None if key in lists else False)
            for key, value in self.document.items()
        )


@dataclass
class _Made:
    """What has been converted so far."""

    variables: Variables
    notes: list[Note] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)

    def expression(self, place: str, text: str) -> str | None:
        """The text in our language; None, and a note, where there is no equivalent."""
        try:
            found = self.variables.translate(text)
        except UntranslatableError as error:
            self.notes.append(Note(place, "left out", f"{error} (in {text[:120]})"))
            return None
        self.notes += [Note(place, "differs", remark) for remark in found.remarks]
        self.needed |= found.names
        return found.text


def convert(
    document: Any, files: Mapping[str, Sequence[str]], source: str = "weaver's config"
) -> Conversion:
    """Convert a document that `read_document` gave. files: of each sample, by its name.

    Raises ConfigError naming the key that makes no sense.
    """
    config = weaver_config(document, source)
    try:
        made = _Made(variables_of(config.new_variables))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    inputs = convert_inputs(config, made.variables)
    made.needed |= inputs.needed
    if not inputs.features and not inputs.sets:
        reasons = "; ".join(map(str, inputs.notes[:3]))
        raise ConfigError(f"{source}: no input has an equivalent: {reasons}")
    common = _events(config, made)
    label = _label(config, made)
    resample = _weight(config, common, made)
    common |= {} if label is None else {"label": label}
    columns = made.variables.needed(made.needed) | made.columns
    converted: dict[str, Any] = {
        "samples": _samples(files, config, common, made),
        "columns": columns,
        "features": inputs.features,
        "inputs": inputs.sets,
        "defaults": {"scaling": "none", "length": 1, "missing": 0.0, "pad": inputs.pad},
        **({} if label is None else {"task": "multiclass"}),
        **({"sampling": {"resample": True}} if resample else {}),
    }
    made.notes += inputs.notes
    _note_the_rest(config, inputs, made, columns)
    validated(RunConfig, converted, f"{source}, converted")
    return Conversion(converted, tuple(made.notes))


def _events(config: WeaverConfig, made: _Made) -> dict[str, Any]:
    """The keys of every sample: tree and selection."""
    found: dict[str, Any] = {}
    if config.treename is not None:
        found["tree"] = config.treename
    if config.selection is not None:
        selection = made.expression("selection", config.selection)
        if selection is not None:
            found["selection"] = selection
    if config.test_time_selection not in (None, config.selection):
        made.notes.append(
            Note(
                "test_time_selection",
                "left out",
                "all splits have one selection; predict and evaluate with another config whose "
                "samples have this one",
            )
        )
    return found


def _label(config: WeaverConfig, made: _Made) -> str | None:
    """The column of the class number."""
    if config.labels is None:
        made.notes.append(Note("labels", "to do", "there are none: samples without labels"))
        return None
    value = config.labels.value
    if isinstance(value, tuple):
        texts = [made.expression(f"labels.value.{n}", text) for n, text in enumerate(value)]
        if None in texts:
            made.notes.append(Note("labels", "left out", "not all of its classes are known"))
            return None
        _add_classes([text for text in texts if text is not None], made)
        return LABEL
    (name, text), *others = value.items()
    made.notes += [
        Note(f"labels.value.{other}", "left out", "a sample has one label") for other, _ in others
    ]
    translated = made.expression(f"labels.value.{name}", text)
    if translated is None:
        return None
    made.notes.append(
        Note("labels", "to do", "taken as a class number; for a number set task: regression")
    )
    made.columns[LABEL] = translated
    return LABEL


def _add_classes(classes: list[str], made: _Made) -> None:
    """The class number of columns of 0 and 1; -1, which is refused, where not one of them is 1."""
    for number, text in enumerate(classes):
        if not text.isidentifier():
            made.columns[f"_is_class_{number}_"] = text
            classes[number] = f"_is_class_{number}_"
    count = _sum(classes, "_classes_", made.columns)
    which = _sum([f"{n}*{name}" for n, name in enumerate(classes)], "_class_", made.columns)
    made.columns[LABEL] = f"where({count} == 1, {which}, -1)"


def _sum(terms: list[str], name: str, columns: dict[str, str]) -> str:
    """A sum in our language; parts of it are columns of their own where there are many terms."""
    while len(terms) > TERMS:
        parts = [terms[start : start + TERMS] for start in range(0, len(terms), TERMS)]
        names = [f"{name}{len(columns) + number}_" for number in range(len(parts))]
        columns |= {n: " + ".join(part) for n, part in zip(names, parts, strict=True)}
        terms = names
    return f"({' + '.join(terms)})"


def _weight(config: WeaverConfig, sample: dict[str, Any], made: _Made) -> bool:
    """Put the weight into the keys of every sample; whether events are drawn by it."""
    weights = config.weights
    if weights is None:
        return False
    if not weights.use_precomputed_weights:
        made.notes += [
            Note(f"weights.{key}", "left out", _REWEIGHTING)
            for key in sorted(weights.model_fields_set | (weights.model_extra or {}).keys())
            if key != "use_precomputed_weights"
        ] or [Note("weights", "left out", _REWEIGHTING)]
        return False
    made.notes += [
        Note(f"weights.{key}", "left out", "weaver does not use it with precomputed weights")
        for key in weights.model_extra or {}
    ]
    product = "*".join(weights.weight_branches)
    translated = made.expression("weights.weight_branches", product)
    if translated is None:
        return False
    if translated.isidentifier():
        sample["weight"] = translated
    else:
        made.columns[WEIGHT] = translated
        sample["weight"] = WEIGHT
    made.notes.append(
        Note(
            "weights",
            "differs",
            "weaver keeps a training event with the probability of its weight, and never one of "
            "a negative weight; sampling.resample draws events in proportion to |weight| and "
            "keeps the sign. Without resample they are weights of the loss",
        )
    )
    return True


def _samples(
    files: Mapping[str, Sequence[str]], config: WeaverConfig, common: dict[str, Any], made: _Made
) -> list[dict[str, Any]]:
    if not files:
        made.notes.append(
            Note(
                "samples",
                "to do",
                "weaver has the files on its command line: put yours in place of "
                f"{PLACEHOLDER}, or convert with --files NAME=GLOB",
            )
        )
    given = files or {"events": [PLACEHOLDER]}
    return [{"name": name, "files": list(globs), **common} for name, globs in given.items()]


def _note_the_rest(
    config: WeaverConfig, inputs: Inputs, made: _Made, columns: Mapping[str, str]
) -> None:
    """Notes of what no other function looks at."""
    notes = made.notes
    for name in config.new_variables:
        if name in made.variables.refused:
            reason = made.variables.refused[name]
            notes.append(Note(f"new_variables.{name}", "left out", reason))
        elif name not in columns and name in made.variables.translated:
            notes.append(Note(f"new_variables.{name}", "left out", "nothing here needs it"))
        else:
            known = made.variables.translated.get(name)
            remarks = known.remarks if known else ()
            notes += [Note(f"new_variables.{name}", "differs", remark) for remark in remarks]
    for key in ("observers", "monitor_variables"):
        for name in getattr(config, key):
            notes.append(Note(f"{key}.{name}", "left out", "only what the model sees is delivered"))
    if config.branch_magic:
        notes.append(
            Note("branch_magic", "left out", "write the names that branches have in the files")
        )
    if config.file_magic:
        notes.append(
            Note("file_magic", "left out", "what a file's name says is the label of a sample")
        )
    if config.preprocess.automatic and "data_fraction" in config.preprocess.model_fields_set:
        notes.append(
            Note("preprocess.data_fraction", "differs", "specs see the whole training split")
        )
    if inputs.sets:
        notes.append(
            Note("inputs", "differs", "sets are (n, length, variables), not (n, variables, length)")
        )
    notes.append(
        Note("inputs", "differs", "infinite values are filled as NaN, not clipped; as all fills "
             "and clips they are counted")
    )  # fmt: skip
    notes.append(
        Note("model", "to do", "weaver has the network on its command line: set model.factory")
    )
