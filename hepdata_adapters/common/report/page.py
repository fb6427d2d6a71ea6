"""The page: all sections with a table of contents, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hepdata_adapters.common.config.dataset_config import DatasetConfig, RunConfig
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.core.writing import check_writable, write_whole
from hepdata_adapters.common.report.collect import Collected, collect
from hepdata_adapters.common.report.html import Element, document, element
from hepdata_adapters.common.report.overview import config_text, notes, overview
from hepdata_adapters.common.report.reading import shares, training_blocks
from hepdata_adapters.common.report.sections import (
    correlation_section,
    feature_section,
    inputs_section,
    lengths_section,
)
from hepdata_adapters.common.report.text import BINNING
from hepdata_adapters.common.specs.compute import Progress
from hepdata_adapters.common.stream.dataset import Dataset

SIDES = (
    "Left: the finite values of the training events by class, also those beyond a pad length. "
    "Right: what the model sees of them, without padding; what was filled is left out in x, and "
    "included in sets and ragged inputs, whose masks are of whole objects. "
)


def report(dataset: Dataset, events: int | None = None, progress: Progress | None = None) -> bytes:
    """The page as HTML in UTF-8, without scripts, links to outside and dates.

    events: read about so many training events, of each file its share from the start; all by
    default. The same data and config give the same bytes.
    Raises ConfigError for ``events`` below 1, MissingExtraError without the extra ``plots``, and
    the errors of reading.
    """
    if events is not None and events < 1:
        raise ConfigError(f"events is at least 1, not {events}")
    wanted = shares(dataset, events)
    found = collect(dataset, training_blocks(dataset, wanted), sum(wanted), progress)
    return _page(dataset, found)


def write_report(
    path: str | Path,
    dataset: Dataset,
    events: int | None = None,
    progress: Progress | None = None,
) -> None:
    """`report` to a file, which is only ever a whole page; FileError where it cannot be one."""
    check_writable(Path(path))
    write_whole(path, report(dataset, events, progress))


def _page(dataset: Dataset, found: Collected) -> bytes:
    name = _name(dataset.config)
    columns = dataset.transform.columns
    anchors = {branch: f"feature-{number}" for number, branch in enumerate(columns)}
    sections = [
        _section("data", "Data", overview(dataset, found)),
        _section("ledger", "What is left out or changed", notes(dataset, found)),
        _section("features", "Features", [
            element("p", SIDES, BINNING, class_="note"),
            *(feature_section(dataset, found, branch, anchors[branch]) for branch in columns),
        ]),
    ]  # fmt: skip
    if found.together:
        lengths = lengths_section(dataset, found)
        sections.append(_section("lengths", "Values an event", lengths))
    if dataset.transform.inputs:
        inputs = inputs_section(dataset, found)
        sections.append(_section("inputs", "Inputs of the model beside x", inputs))
    if dataset.transform.vector:
        pairs = correlation_section(dataset, found)
        sections.append(_section("correlations", "Correlations", pairs))
    sections.append(_section("config", "Config", [config_text(dataset.config)]))
    return document(
        f"{name}: data report",
        element("h1", name),
        element("p", "What the data are, and what the transform makes of them.", class_="note"),
        _contents(sections, anchors),
        *sections,
    )


def _section(anchor: str, title: str, children: Iterable[Element]) -> Element:
    return element("section", element("h2", title), *children, id=anchor)


def _contents(sections: list[Element], anchors: dict[str, str]) -> Element:
    items = []
    for section in sections:
        anchor = section.attrib["id"]
        item = element("li", element("a", section[0].text or "", href=f"#{anchor}"))
        if anchor == "features":
            links = (element("a", name, href=f"#{place}") for name, place in anchors.items())
            item.append(element("div", *links, class_="features"))
        items.append(item)
    return element("nav", element("ul", *items))


def _name(config: DatasetConfig) -> str:
    return config.name if isinstance(config, RunConfig) else config.samples[0].name
