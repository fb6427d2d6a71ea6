"""The head of the page: what the data are, what happened to them, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterator

from hepdata_adapters import __version__
from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.text import number
from hepdata_adapters.common.events.split import SPLITS, describe_split
from hepdata_adapters.common.report.collect import Collected
from hepdata_adapters.common.report.html import Child, Element, element, facts, table
from hepdata_adapters.common.report.text import percent
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.kept_units import kept_line

WEIGHTED = {
    "events": "Every event counts once, whatever its weight, as for the scaling.",
    "weights": "Every event counts with the absolute value of its weight, as for the scaling.",
    "classes": "Every event counts once; for the scaling, all classes weigh the same.",
}


def overview(dataset: Dataset, found: Collected) -> Iterator[Element]:
    """Files, events, weights, task and how much of it this page shows."""
    specs, layout = dataset.specs, dataset.layout
    read, train = int(found.events.sum()), specs.events("train")
    shown = "all of them" if read == train else f"{read:,} of them, {PARTIAL}"
    rows: list[tuple[str, Child]] = [
        ("Events", f"{specs.events():,} selected in {len(dataset.manifest.files)} file(s)"),
        ("Shown here", f"training events only, {shown}; a training pass may balance or resample "
                       "them, this page does not"),
        ("Counted", WEIGHTED[dataset.config.statistics]),
        ("Split by", describe_split(dataset.config.split, layout.identity)),
        ("Task", layout.task or "none, the samples have no labels"),
        ("Specs", element("code", specs.hash)),
        ("Made by", f"hepdata-adapters {__version__}"),
    ]  # fmt: skip
    if kept := kept_line(dataset.config.reading):
        rows.append(("Later epochs", kept))
    if specs.sampled:
        part = specs.sampled
        rows.insert(2, ("Statistics", f"of {part.events:,} training events, in {part.units} of "
                                      f"{part.of} parts of the files"))  # fmt: skip
    yield facts(rows)
    yield element("h3", "Samples")
    yield _samples(dataset)
    made = _made(dataset)
    if made:
        yield element("h3", "Objects and derived columns")
        yield table(["", "what", "expression"], made)
    kind = "Classes" if layout.task in ("binary", "multiclass") else "Samples"
    yield element("h3", f"{kind} of the training events shown")
    yield _groups(found)


PARTIAL = "those that come first in each file, of each file its share"


def notes(dataset: Dataset, found: Collected) -> Iterator[Element]:
    """The ledger, and what the transform refuses."""
    for branch, events in sorted(found.refused.items()):
        yield element(
            "p",
            f"{events:,} training event(s) are refused: {found.reasons[branch]}. A training stops "
            "there; see the policies 'missing' and 'overflow'. These events are left out of the "
            "pictures of scaled values and of the correlations.",
            class_="alarm",
        )
    for note in dataset.remarks:
        yield element("p", note.text, class_="alarm")
    ledger = dataset.notes()
    ledger.merge(found.ledger)
    rows: list[list[Child]] = []
    for kind, places in ledger.to_dict().items():
        excluded = dataset.layout.excluded if kind == "branches excluded" else {}
        # the branches of one group are cut alike: one line for all of them
        alike: dict[tuple[str, int], list[str]] = {}
        for place, count in places.items():
            alike.setdefault((excluded.get(place, ""), count), []).append(place)
        for (reason, count), names in alike.items():
            each = " each" if len(names) > 1 else ""
            rows.append([kind, ", ".join(names), f"{count:,}{each}", reason])
    if rows:
        yield table(["what", "where", "how often", "why"], rows, numbers=[2])
    else:
        yield element("p", "Nothing is skipped, truncated, filled or clipped.")
    yield element(
        "p",
        "Events and branches are those of all splits, values those of the training events shown.",
        class_="note",
    )


def config_text(config: DatasetConfig) -> Element:
    """The config as YAML, defaults left out."""
    document = config.model_dump(mode="json", exclude_defaults=True)
    return element("pre", write_yaml(document))


def _samples(dataset: Dataset) -> Element:
    counts = [dict.fromkeys(SPLITS, 0) for _ in dataset.config.samples]
    for file_number, file in enumerate(dataset.manifest.files):
        for split in SPLITS:
            counts[file.sample][split] += int(dataset.specs.counts(file_number, split).sum())
    rows: list[list[Child]] = []
    for sample, events in zip(dataset.config.samples, counts, strict=True):
        label = "none" if sample.label is None else sample.label
        weight = sample.weight
        constant = "" if weight.branch and weight.constant == 1 else number(weight.constant)
        rows.append([
            sample.name, label if isinstance(label, str) else f"{label:g}",
            " × ".join(part for part in (weight.branch or "", constant) if part),
            sample.selection or "", *(f"{events[split]:,}" for split in SPLITS),
            f"{sum(events.values()):,}",
        ])  # fmt: skip
    totals = [dataset.specs.events(split) for split in (*SPLITS, None)]
    rows.append(["all", "", "", "", *(f"{total:,}" for total in totals)])
    head = ["sample", "label", "weight", "selection", *SPLITS, "all"]
    return table(head, rows, numbers=[4, 5, 6, 7])


def _made(dataset: Dataset) -> list[list[Child]]:
    """What is selected, sorted and computed before any feature is made."""
    preparation = dataset.transform.preparation
    rows: list[list[Child]] = []
    for group in preparation.objects:
        order = "descending" if group.descending else "ascending"
        for what, text in (("kept where", group.selection), (f"sorted, {order}", group.sort_by)):
            if text is not None:
                rows.append([group.name, what, element("code", text)])
    return rows + [
        [column.name, "computed", element("code", column.expression)]
        for column in preparation.columns
    ]


def _groups(found: Collected) -> Element:
    rows: list[list[Child]] = []
    for name, events, weight, negative in zip(
        found.groups, found.events.tolist(), found.weights.tolist(), found.negative.tolist(),
        strict=True,
    ):  # fmt: skip
        share = events / max(int(found.events.sum()), 1)
        below = percent(negative / events) if events else "–"
        rows.append([name, f"{events:,}", percent(share), number(weight), below])
    head = ["", "events", "share", "sum of weights", "with a negative weight"]
    return table(head, rows, numbers=[1, 2, 3, 4])
