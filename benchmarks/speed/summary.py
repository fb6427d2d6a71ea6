"""What the measurements of a document say: medians, spreads and ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None of no values."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))

    def over(self, base: float) -> Spread:
        """All three as ratios to a number."""
        return Spread(self.median / base, self.low / base, self.high / base)


@dataclass(frozen=True)
class Row:
    """One system on one workload.

    first_batch: seconds from the start of the imports. first, later: events/s of epochs. ratio:
    of ``later`` to the median of the base. resident, own: peak bytes. check: of the compared
    events, or None where none were. complete: whether all files of the workload were read.
    failure: why there is nothing.
    """

    system: str
    title: str
    kind: str
    first_batch: float | None
    first: Spread | None
    later: Spread | None
    ratio: Spread | None
    resident: float | None
    own: float | None
    check: dict[str, Any] | None
    complete: bool
    failure: str | None


def rows_of(document: Document, workload: str) -> list[Row]:
    """In the order of the systems; those that were not asked for this workload are left out."""
    base = _later(_answers(document, workload, document["base"]))
    return [
        _row(document, workload, system, base.median if base else None)
        for system in document["systems"]
        if any(_of(run, workload, system["key"]) for run in document["runs"])
    ]


def versions_of(document: Document) -> dict[str, str]:
    """Of all that was imported anywhere; where environments differ, each of them."""
    found: dict[str, set[str]] = {}
    for run in document["runs"]:
        for name, version in run.get("versions", {}).items():
            found.setdefault(name, set()).add(version)
    return {name: " / ".join(sorted(versions)) for name, versions in sorted(found.items())}


def _of(run: dict[str, Any], workload: str, system: str) -> bool:
    return bool(run["workload"] == workload and run["system"] == system)


def _answers(document: Document, workload: str, system: str) -> list[dict[str, Any]]:
    runs = [run for run in document["runs"] if _of(run, workload, system)]
    return [run for run in runs if "epochs" in run]


def _rates(epochs: list[dict[str, Any]]) -> list[float]:
    return [epoch["events"] / epoch["seconds"] for epoch in epochs]


def _later(answers: list[dict[str, Any]]) -> Spread | None:
    return Spread.of([rate for answer in answers for rate in _rates(answer["epochs"][1:])])


def _row(document: Document, workload: str, system: dict[str, str], base: float | None) -> Row:
    key = system["key"]
    runs = [run for run in document["runs"] if _of(run, workload, key)]
    answers = _answers(document, workload, key)
    (files,) = [one["files"] for one in document["workloads"] if one["key"] == workload]
    later = _later(answers)
    begins = [answer["first_batch"] for answer in answers if answer["first_batch"] is not None]
    errors = [run["error"] for run in runs if "error" in run]
    # a pass that has one epoch is compared by it
    compared = later or Spread.of(_rates([one for a in answers for one in a["epochs"][:1]]))
    comparable = base is not None and system["kind"] != "specs"
    return Row(
        system=key, title=system["title"], kind=system["kind"],
        first_batch=statistics.median(begins) if begins else None,
        first=Spread.of(_rates([one for a in answers for one in a["epochs"][:1]])),
        later=later,
        ratio=compared.over(base) if compared and comparable and base else None,
        resident=max((answer["peak_resident"] for answer in answers), default=None),
        own=max((answer["peak_own"] for answer in answers), default=None),
        check=next((run["check"] for run in runs if "check" in run), None),
        complete=all(answer["files"] == files for answer in answers),
        failure=errors[0] if errors else None,
    )  # fmt: skip
