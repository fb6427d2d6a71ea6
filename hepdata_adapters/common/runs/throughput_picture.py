"""The picture of a measurement: microseconds of an event by stage, and the rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hepdata_adapters.common.core.errors import MissingExtraError
from hepdata_adapters.common.runs.bench import Throughput
from hepdata_adapters.common.runs.stages import STAGES, WAITING

NAMED, DRAWN = 0.05, 0.002
"""The shares from which on a stage has its figure inside of the bar, and is there at all."""
COLOURS = {  # shades of one colour for what reads, of another for what trains
    "fetch": "#0b3c5d", "decompress": "#1d5f8a", "decode": "#3f90da", "columns": "#72b1e4",
    "select": "#92dadd", "transform": "#5cb8b2", "shuffle": "#94a4a2", "hand over": "#b9ac70",
    "forward": "#ffa90e", "backward": "#e76300", "optimiser": "#bd1f01", "metrics": "#a96b59",
    "graph": "#ffa90e", "loop": "#832db6", "compile": "#717581",
}  # fmt: skip
_DARK = {"fetch", "decompress", "decode", "backward", "optimiser", "loop", "metrics", "compile"}


def draw(path: Path, found: Throughput, title: str) -> None:
    """A bar for the loader and one for the step, and below a bar for each rate.

    Raises MissingExtraError without matplotlib.
    """
    try:
        import matplotlib
        import mplhep
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "plots") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {**mplhep.style.ROOT, "font.size": 13, "axes.labelsize": 14, "axes.titlesize": 15,
             "legend.fontsize": 12, "xtick.labelsize": 12, "ytick.labelsize": 13}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 6.5), layout="constrained")
        FigureCanvasAgg(figure)
        stages, rates = figure.subplots(2, 1, height_ratios=[1.25, 1])
        _draw_stages(stages, found)
        _draw_rates(rates, found)
        figure.suptitle(title, fontsize=15)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_stages(axes: Any, found: Throughput) -> None:
    bars = {"loader": found.loader} | ({"step": found.step} if found.step else {})
    totals = {
        name: sum(row.us_per_event for row in one.stages if row.stage != WAITING)
        for name, one in bars.items()
    }
    shown: set[str] = set()
    for place, one in enumerate(bars.values()):
        left = 0.0
        for row in one.stages:
            if row.share < DRAWN:
                continue
            axes.barh(
                place, row.us_per_event, left=left, height=0.6, color=COLOURS[row.stage],
                label=None if row.stage in shown else row.stage, edgecolor="white", linewidth=0.8,
            )  # fmt: skip
            shown.add(row.stage)
            if row.us_per_event > NAMED * max(totals.values()):
                axes.text(
                    left + row.us_per_event / 2, place, f"{row.share:.0%}", ha="center",
                    va="center", fontsize=12, color="white" if row.stage in _DARK else "black",
                )  # fmt: skip
            left += row.us_per_event
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, 1.02 * max(totals.values(), default=1.0) or 1.0)
    axes.set_xlabel("thread time of an event (µs)")
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
    handles, labels = axes.get_legend_handles_labels()
    ordered = sorted(zip(labels, handles, strict=True), key=lambda pair: STAGES.index(pair[0]))
    axes.legend(
        [handle for _, handle in ordered], [label for label, _ in ordered],
        loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False,
    )  # fmt: skip


def _draw_rates(axes: Any, found: Throughput) -> None:
    rates = {"loader": found.loader.rate.events_per_second}
    if found.outside:
        rates["loader with\nworkers"] = found.outside.rate.events_per_second
    if found.step:
        rates["step"] = found.step.rate.events_per_second
    if found.both:
        rates["both"] = found.both.rate.events_per_second
    highest = max(rates.values())
    for place, (name, rate) in enumerate(rates.items()):
        colour = "#832db6" if name == "both" else "#ffa90e" if name == "step" else "#3f90da"
        axes.barh(place, rate, height=0.6, color=colour)
        axes.text(rate + highest / 100, place, f"{rate:,.0f}", va="center", fontsize=12)
    axes.set_yticks(range(len(rates)), list(rates))
    axes.set_ylim(len(rates) - 0.5, -0.5)
    axes.set_xlim(0, 1.15 * highest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    axes.set_xlabel("events per second")
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
