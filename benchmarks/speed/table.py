"""The document as tables: on the terminal, and as Markdown."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.summary import Document, Row, Spread, rows_of, versions_of

HEAD = (
    "system", "first batch", "first epoch", "later epochs", "spread", "ratio", "memory", "equal"
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """What stands in a line of a table."""
    if row.later is None and row.first is None:
        return [row.title, *("–" for _ in HEAD[1:-1]), _equal(row)]
    later = row.later
    return [
        row.title,
        f"{row.first_batch:.1f} s" if row.first_batch is not None and row.kind != "bound" else "–",
        _rate(row.first),
        _rate(later) + ("" if row.complete else " ¹"),
        f"{later.low:,.0f} to {later.high:,.0f}" if later else "–",
        f"{row.ratio.median:.2f}" if row.ratio else "–",
        f"{row.own / 2**20:,.0f} ({row.resident / 2**20:,.0f})"
        if row.own is not None and row.resident is not None else "–",
        _equal(row),
    ]  # fmt: skip


def show(document: Document, console: Console) -> None:
    """Print a table for each workload."""
    for workload in document["workloads"]:
        table = Table(box=None, title=title_of(workload), title_justify="left", pad_edge=False)
        for name in HEAD:
            justify: Any = "left" if name in ("system", "equal") else "right"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=name == "spread")
        for row in rows_of(document, workload["key"]):
            table.add_row(*cells(row))
        console.print(table, markup=False)
        for note in notes(document, workload["key"]):
            console.print(note, markup=False)
        console.print()
    console.print(f"{setting(document)}\n{legend(document)}", markup=False)


def markdown(document: Document, workload: str) -> str:
    """The table of a workload."""
    align = "|:--|" + "--:|" * (len(HEAD) - 2) + ":--|"
    found = ["| " + " | ".join(HEAD) + " |", align]
    for row in rows_of(document, workload):
        texts = [text.replace("|", "\\|") for text in cells(row)]
        if row.kind == "ours":
            texts[0] = f"**{texts[0]}**"
        found.append("| " + " | ".join(texts) + " |")
    return "\n".join(found + [f"\n{note}" for note in notes(document, workload)])


def notes(document: Document, workload: str) -> list[str]:
    """Why systems were not measured, and what was wrong with rows."""
    rows = rows_of(document, workload)
    found = [f"{row.title} did not run: {row.failure}" for row in rows if row.failure]
    return found + [f"{row.title}: {faults}" for row in rows if (faults := _faults(row))]


def title_of(workload: dict[str, Any]) -> str:
    """What a workload is, in a line."""
    return (
        f"{workload['title']}: {workload['files']} × {workload['inputs']['events']:,} events, "
        f"{workload['bytes'] / 1e6:,.0f} MB, {workload['columns']} columns"
    )


def setting(document: Document) -> str:
    """Machine, date and versions."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in versions_of(document).items())
    return (
        f"{document['date']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory'] / 2**30:.0f} GiB, {machine['system']}; {versions}."
    )


def legend(document: Document) -> str:
    """What the columns say."""
    settings = document["settings"]
    base = next(
        (one["title"] for one in document["systems"] if one["key"] == document["base"]), "ROOT"
    )
    return (
        f"Events/s of shuffled float32 batches of {document['batch_size']}, jagged branches padded "
        f"to {document['length']}, from a warm page cache; {settings['repeat']} processes each, in "
        f"turn, of {settings['epochs']} epochs: medians, smallest to largest. First batch: from "
        f"the start of the imports. Ratio: later epochs to those of {base}. Memory: peak MiB of "
        f"all processes without mapped files (with them). Equal: of random events, those that came "
        f"once and bit by bit as plain uproot has them. ¹ of its first files only."
    )


def _rate(found: Spread | None) -> str:
    return f"{found.median:,.0f}" if found else "–"


def _equal(row: Row) -> str:
    if row.failure:
        return "did not run"
    return f"{row.check['equal']:,} of {row.check['sample']:,}" if row.check else "–"


def _faults(row: Row) -> str:
    """Of the events of the sample, and of all."""
    check = row.check or {}
    sample = [
        f"{check[name]:,} of the sample {name}"
        for name in ("different", "missing", "repeated") if check.get(name)
    ]  # fmt: skip
    return ", ".join(
        sample + [f"{check[name]:,} of all {name}" for name in ("lost", "extra") if check.get(name)]
    )
