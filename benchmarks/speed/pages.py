"""What docs/benchmark.md and the README say of the figures: made from the JSON, never by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks.speed.environments import HOME
from benchmarks.speed.summary import Document, Row, rows_of
from benchmarks.speed.table import legend, markdown, setting, title_of

RESULTS, CHART = HOME / "docs" / "benchmark.json", HOME / "docs" / "benchmark.png"
PAGES = (HOME / "docs" / "benchmark.md", HOME / "README.md")
NONE_YET = "No figures have been published yet: `make bench` measures them on your machine."
_BLOCK = re.compile(r"(<!-- benchmark: begin -->\n).*?(<!-- benchmark: end -->)", re.DOTALL)


def published() -> Document | None:
    """The document that the pages show."""
    found: Document | None = json.loads(RESULTS.read_text()) if RESULTS.exists() else None
    return found


def filled(page: Path, document: Document | None) -> str:
    """The text of a page with its block made anew."""
    block = _short(document) if page.name == "README.md" else _long(document)
    text = page.read_text()
    if not _BLOCK.search(text):
        raise ValueError(f"{page} has no block between <!-- benchmark: begin --> and end -->")
    return _BLOCK.sub(lambda found: f"{found[1]}{block}\n{found[2]}", text)


def _short(document: Document | None) -> str:
    """A sentence and the picture."""
    if document is None:
        return NONE_YET
    ours = [row for row in _first(document) if row.kind == "ours" and row.ratio]
    if not ours:
        return NONE_YET
    plain = ours[0]  # nothing kept, no worker: the first in the list of systems
    best = max(ours, key=lambda row: row.ratio.median if row.ratio else 0.0)
    assert plain.ratio is not None
    assert plain.later is not None
    assert best.ratio is not None
    workload = document["workloads"][0]
    machine = document["machine"]
    more = f", {best.ratio.median:.1f} times as {best.title}" if best is not plain else ""
    return (
        f"{plain.later.median:,.0f} events/s ({workload['title']}, {workload['columns']} columns; "
        f"{plain.title}; {machine['cores']} cores of {machine['cpu']}): {plain.ratio.median:.1f} "
        f"times ROOT's own `RDataLoader` in its later epochs{more}.\n\n"
        f"![Events per second, as ratios to ROOT's RDataLoader](docs/{CHART.name})"
    )


def _first(document: Document) -> list[Row]:
    return rows_of(document, document["workloads"][0]["key"])


def _long(document: Document | None) -> str:
    """All tables."""
    if document is None:
        return NONE_YET
    parts = [f"![Ratios to ROOT's RDataLoader]({CHART.name})", setting(document), legend(document)]
    for workload in document["workloads"]:
        parts += [f"### {title_of(workload)}", markdown(document, workload["key"])]
    return "\n\n".join(parts)
