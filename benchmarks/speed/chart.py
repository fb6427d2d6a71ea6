"""The picture for the README: ratios to ROOT's later epochs, with their spread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.summary import Document, Row, rows_of

SHOWN = ("tree", "ntuple", "cached", "nano")  # of the workloads, where they were measured
COLOURS = {"ours": "#0b7285", "rival": "#adb5bd", "bound": "#ffe8cc"}


def draw(document: Document, path: Path) -> None:
    """Write a PNG (or what the name of the file says)."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    known = [one for one in document["workloads"] if one["key"] in SHOWN] or document["workloads"]
    panels = [(one, _bars(document, one["key"])) for one in known]
    panels = [(one, bars) for one, bars in panels if bars]
    if not panels:
        raise ValueError("no system was measured beside the base: there is nothing to draw")
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    heights = [
        max(len(bars) for _, bars in panels[line * columns : (line + 1) * columns])
        for line in range(lines)
    ]
    figure, axes = plt.subplots(
        lines, columns, squeeze=False, figsize=(6.4 * columns, 0.32 * sum(heights) + 1.3 * lines),
        gridspec_kw={"height_ratios": heights}, layout="constrained",
    )  # fmt: skip
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (workload, bars) in zip(axes.flat, panels, strict=False):
        _panel(axis, workload, bars)
    machine = document["machine"]
    figure.supxlabel(
        f"events/s ÷ those of ROOT's RDataLoader in its later epochs (batches of "
        f"{document['batch_size']}, shuffled, padded)\n{machine['cpu']}, {machine['cores']} cores, "
        f"{document['date']}; bars: median, whiskers: smallest and largest, →: beyond the axis",
        fontsize=8,
    )  # fmt: skip
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _bars(document: Document, workload: str) -> list[Row]:
    return [row for row in rows_of(document, workload) if row.ratio and row.kind in COLOURS]


def _panel(axis: Any, workload: dict[str, Any], rows: list[Row]) -> None:
    rows = rows[::-1]  # the first at the top
    ratios = [row.ratio for row in rows if row.ratio]
    loaders = [ratio.high for row, ratio in zip(rows, ratios, strict=True) if row.kind != "bound"]
    edge = 1.4 * max([1.0, *loaders])  # a bound far beyond it would leave nothing to see
    middles = [min(ratio.median, edge) for ratio in ratios]
    spread = [
        [max(middle - ratio.low, 0) for middle, ratio in zip(middles, ratios, strict=True)],
        [
            min(ratio.high, edge) - middle if ratio.median < edge else 0
            for middle, ratio in zip(middles, ratios, strict=True)
        ],
    ]
    axis.barh(
        range(len(rows)), middles, xerr=spread, color=[COLOURS[row.kind] for row in rows],
        height=0.72, error_kw={"elinewidth": 1, "ecolor": "#343a40", "capsize": 2},
    )  # fmt: skip
    axis.axvline(1, color="#343a40", linewidth=0.8, linestyle=":", zorder=0)
    for place, (row, ratio) in enumerate(zip(rows, ratios, strict=True)):
        later = row.later or row.first
        rate = f"{later.median / 1000:,.0f}k/s" if later else ""
        beyond = ratio.median > edge
        axis.text(
            min(ratio.high, edge) + 0.015 * edge, place,
            f"{'→ ' * beyond}{ratio.median:.2f}   {rate}", va="center", fontsize=7.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    axis.set_xlim(0, edge * 1.28)
    axis.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=8)
    axis.set_title(workload["title"], fontsize=9, loc="left", fontweight="bold")
    axis.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
