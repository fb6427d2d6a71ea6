"""What people should know of a dataset before they believe a number that comes of it.

Pure functions of config, layout and specs; `validate`, `fit`, the first use of a dataset and the
ledger all say the same. Notes remove nothing: they say what to write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.ledger import LedgerKind
from hepdata_adapters.common.events.layout import Layout
from hepdata_adapters.common.events.split import SPLITS
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.binding import Binding
from hepdata_adapters.common.specs.census import BEYOND, NO_CLASS, Census, added
from hepdata_adapters.common.specs.identity_checks import identity_notes
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.separation import Shape, area

SEPARATED = 0.99
"""The area under the ROC curve of one feature above which it gives the class away."""
FEWEST = 10
"""Events of a class, at least: fewer are separated by chance."""
WEIGHT_NAMES = ("*[wW]eight*", "[gG]en*", "LHE*", "*[tT]ruth*")
LABEL_NAMES = frozenset(
    ("label", "labels", "target", "class", "type", "signal", "issignal", "issig")
)


@dataclass(frozen=True)
class Note:
    """One thing to know: the line of the ledger it adds (kind, counts by place), and the text."""

    kind: LedgerKind
    counts: dict[str, int]
    text: str


def notes_of(config: DatasetConfig, manifest: Manifest, layout: Layout, specs: Specs) -> list[Note]:
    """All notes on a dataset, the gravest first."""
    wanted = Binding.of(config, manifest, layout)
    found: list[Note] = []
    if layout.task in ("binary", "multiclass"):
        if specs.binding.same_targets(wanted):
            found += _class_notes(specs)
            found += _separating(layout, specs)
        else:
            found.append(_unknown())
    found += _names(config, layout)
    found += [Note(*note) for note in identity_notes(config, manifest, specs)]
    return found


def training_classes(specs: Specs) -> dict[str, int]:
    """The training events of each class, by its name."""
    whole: Census = {}
    for file in specs.binding.files:
        whole = added(whole, file.census)
    return {
        name: splits["train"].events
        for name, splits in whole.items()
        if "train" in splits and splits["train"].events
    }


def _class_notes(specs: Specs) -> Iterator[Note]:
    whole: Census = {}
    for file in specs.binding.files:
        whole = added(whole, file.census)
    train = training_classes(specs)
    if len(train) == 1:
        (name,) = train
        yield Note(
            "training events of one class only", {f"class {name}": train[name]},
            f"all {train[name]:,} training events are of class {name}: a model learns nothing but "
            f"that, its accuracy is 1 and there is no AUC. Add a sample with another label, or "
            f"look at the selections and the split",
        )  # fmt: skip
    for split in SPLITS[1:]:
        there = [name for name, splits in whole.items() if split in splits]
        gone = [name for name in train if name not in there]
        if there and gone:
            yield Note(
                "classes without events in a split", {f"{split}: class {name}": 1 for name in gone},
                f"there are {split} events, but none of class {', '.join(gone)}: no AUC of that "
                f"split tells how well it is found. Change split.seed, or the selections",
            )  # fmt: skip
    for name, meaning in ((NO_CLASS, "no class number"), (BEYOND, "very high class numbers")):
        if name in train:
            yield Note(
                "labels that are no class", {name: train[name]},
                f"{train[name]:,} training events have labels that are {meaning}: is task: "
                f"regression meant?",
            )  # fmt: skip
    bad = sum(t.unweighable for splits in whole.values() for t in splits.values())
    if bad:
        yield Note(
            "weights that are NaN or infinite", {"": bad},
            f"the weights of {bad:,} events are NaN or infinite: reading them will fail. Leave "
            f"them out with the selection of their sample",
        )  # fmt: skip


def _separating(layout: Layout, specs: Specs) -> Iterator[Note]:
    """Features that give the class away alone."""
    shapes = specs.shapes
    sizes = {name: _events(found) for name, found in shapes.items()}
    for branch in layout.columns:
        best, which = 0.0, ""
        for name, found in shapes.items():
            others = [other for other in shapes if other != name and branch in shapes[other]]
            rest = sum(sizes[other] for other in others)
            if branch not in found or min(sizes[name], rest) < FEWEST:
                continue
            value = area([found[branch]], [shapes[other][branch] for other in others])
            if value > best:
                best, which = value, name
        if best > SEPARATED:
            from_others = "from the others" if len(shapes) > 2 else "from the other"
            yield Note(
                "features that separate the classes alone", {branch: 1},
                f"{branch} alone tells class {which} {from_others} (AUC {best:.4f} in training): "
                f"is it the label, or made of it? If so, write {_excluding([branch])}",
            )  # fmt: skip


def _events(found: dict[str, Shape]) -> float:
    return max((s.missing + sum(n for _, n in s.means) for s in found.values()), default=0.0)


def _names(config: DatasetConfig, layout: Layout) -> Iterator[Note]:
    """Features whose names are those of weights, truth or labels."""
    used = layout.columns
    doubtful = [name for name in used if any(fnmatchcase(name, p) for p in WEIGHT_NAMES)]
    if doubtful:
        yield _by_name(
            "features named like weights or truth", doubtful,
            "weights or the truth of the simulation, which are not there in data",
        )  # fmt: skip
    words = {_plain(sample.name.split(".")[0]) for sample in config.samples} - {""}
    meant = [name for name in used if _means_label(name, words)]
    if meant:
        yield _by_name(
            "features named like a label", meant, "what the labels of the samples say already"
        )


def _by_name(kind: LedgerKind, names: Sequence[str], meaning: str) -> Note:
    listed = ", ".join(names)
    are = "is a feature and sounds" if len(names) == 1 else "are features and sound"
    return Note(
        kind, dict.fromkeys(names, 1),
        f"{listed} {are} like {meaning}: if so, write {_excluding(names)}",
    )  # fmt: skip


def _excluding(names: Sequence[str]) -> str:
    """The line of a config that leaves these branches out.

    >>> _excluding(["MET", "hits[10]"])
    "exclude: [MET, 'hits[10]']"
    """
    return write_yaml({"exclude": list(names)}, flow=True).strip("{}")


def _means_label(name: str, samples: set[str]) -> bool:
    """Whether a feature has the name of a label, or of a sample.

    >>> [_means_label(name, {"tth"}) for name in ("is_ttH", "Type", "Jet_pt")]
    [True, True, False]
    """
    plain = _plain(name)
    return plain in LABEL_NAMES or plain in samples or plain.removeprefix("is") in samples


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _unknown() -> Note:
    return Note(
        "notes that need new specs", {"classes": 1},
        "these specs do not know the classes of the events as they are labelled now, so nothing "
        "is said of features that give them away: hepdata-adapters specs CONFIG -o FILE makes new "
        "ones",
    )  # fmt: skip
