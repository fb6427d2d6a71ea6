"""The pictures of the page, as PNG bytes; the same data give the same bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.errors import MissingExtraError
from hepdata_adapters.common.report.binning import logarithmic_heights
from hepdata_adapters.common.report.distribution import Distribution
from hepdata_adapters.common.runs.pictures import COLOURS
from hepdata_adapters.common.transform.image import ImageBins

DPI = 150
MAX_NAME = 40
MAX_ANNOTATED = 12
"""Columns of a matrix whose numbers are written into its cells."""
PALETTE = (*COLOURS, "#e76300", "#92dadd")  # arXiv:2107.02270


def draw_distribution(
    found: Distribution,
    groups: Sequence[str],
    label: str,
    heights_label: str = "share of values / bin",
    cuts: Sequence[int] = (),
) -> bytes:
    """Curves by group. cuts: numbers of objects, a line after each."""
    binning = found.binning
    if binning is None:
        raise ValueError("there are no bins to draw")
    with _style():
        import mplhep

        figure, axes = _curves()
        heights = found.heights()
        for number, (name, values) in enumerate(zip(groups, heights, strict=True)):
            if not values.any():
                continue
            colour = PALETTE[number % len(PALETTE)]
            mplhep.histplot(
                values, binning.edges, ax=axes, histtype="fill", color=colour, alpha=0.15
            )
            mplhep.histplot(
                values, binning.edges, ax=axes, histtype="step", color=colour, linewidth=1.6,
                label=_short(name),
            )  # fmt: skip
        if logarithmic_heights(heights):
            axes.set_yscale("log")
            axes.set_ylim(0.5 * heights[heights > 0].min(), 6 * heights.max())
        else:
            axes.set_ylim(0, 1.3 * (heights.max() or 1.0))
        for cut in cuts:
            axes.axvline(cut + 0.5, color="black", linestyle="--", linewidth=1.4)
        if binning.logarithmic:
            axes.set_xscale("log")
        axes.set_xlim(binning.edges[0], binning.edges[-1])
        axes.set_xlabel(_short(label), parse_math=False)
        axes.set_ylabel(heights_label)
        _legend(axes, len(groups))
        return _png(figure)


def draw_matrix(matrix: NDArray[np.float64], names: Sequence[str]) -> bytes:
    """A correlation matrix; pairs without a correlation are grey."""
    count = len(names)
    with _style():
        side = 2.6 + max(0.16 * count, 1.6)
        figure = _figure((side + 0.7, side))
        axes = figure.add_subplot()
        axes.set_facecolor("0.85")
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(matrix), cmap="RdBu_r", vmin=-1, vmax=1,
            edgecolors="white", linewidth=0.3,
        )  # fmt: skip
        if count <= MAX_ANNOTATED:
            for (row, column), r in np.ndenumerate(matrix):
                colour = "white" if abs(r) > 0.6 else "black"
                shown = "" if np.isnan(r) else f"{r:.2f}"
                axes.text(
                    column + 0.5, row + 0.5, shown, ha="center", va="center", fontsize=7,
                    color=colour,
                )  # fmt: skip
        places, short = np.arange(count) + 0.5, [_short(name) for name in names]
        axes.set_xticks(places, short, rotation=90, fontsize=7, parse_math=False)
        axes.set_yticks(places, short, fontsize=7, parse_math=False)
        axes.tick_params(which="both", length=0)
        axes.minorticks_off()
        axes.invert_yaxis()
        axes.set_aspect("equal")
        bar = figure.colorbar(mesh, ax=axes, fraction=0.04, pad=0.02)
        bar.set_label("linear correlation r", fontsize=9)
        return _png(figure)


def draw_images(
    images: Sequence[NDArray[np.float64]], names: Sequence[str], axes_of: Sequence[ImageBins]
) -> bytes:
    """Mean images of one channel side by side, on one colour scale; of one axis, as curves.

    images: ``(bins,)`` or ``(bins, bins)`` each; axes_of: the one or two axes.
    """
    if images[0].ndim == 1:
        return _draw_profiles(images, names, axes_of[0])
    from matplotlib.colors import LogNorm, Normalize

    stacked = np.array(images)
    filled = stacked[stacked != 0]
    logarithmic = bool(len(filled)) and filled.min() > 0 and logarithmic_heights(filled)
    low, high = (filled.min(), filled.max()) if len(filled) else (0.0, 1.0)
    norm = LogNorm(low, high) if logarithmic else Normalize(min(low, 0.0), max(high, 0.0))
    per_row = min(len(images), 3)
    rows = -(-len(images) // per_row)
    with _style():
        figure = _figure((3.3 * per_row + 0.9, 3.2 * rows))
        panels = figure.subplots(rows, per_row, squeeze=False)
        for panel, image, name in zip(panels.flat, images, names, strict=False):
            shown = np.ma.masked_equal(image.T, 0) if logarithmic else image.T
            x, y = (np.array(bins.edges) for bins in axes_of)
            mesh = panel.pcolormesh(x, y, shown, cmap="viridis", norm=norm)
            panel.set_title(_short(name), fontsize=9, parse_math=False)
            panel.set_xlabel(_short(axes_of[0].branch), parse_math=False)
            panel.set_ylabel(_short(axes_of[1].branch), parse_math=False)
        for panel in list(panels.flat)[len(images) :]:
            panel.set_visible(False)
        bar = figure.colorbar(mesh, ax=panels, fraction=0.03, pad=0.02)
        bar.set_label("mean / event", fontsize=9)
        return _png(figure)


def _draw_profiles(
    images: Sequence[NDArray[np.float64]], names: Sequence[str], bins: ImageBins
) -> bytes:
    with _style():
        import mplhep

        figure, axes = _curves()
        for number, (image, name) in enumerate(zip(images, names, strict=True)):
            mplhep.histplot(
                image, np.array(bins.edges), ax=axes, histtype="step",
                color=PALETTE[number % len(PALETTE)], linewidth=1.6, label=_short(name),
            )  # fmt: skip
        axes.set_xlabel(_short(bins.branch), parse_math=False)
        axes.set_ylabel("mean / event")
        _legend(axes, len(names))
        return _png(figure)


def _style() -> Any:
    try:
        import matplotlib
        import mplhep
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "plots") from None
    sizes = {
        "font.size": 9, "axes.labelsize": 10, "xtick.labelsize": 8, "ytick.labelsize": 8,
        "legend.fontsize": 8, "axes.linewidth": 1.0, "xtick.major.size": 5, "xtick.minor.size": 2.5,
        "ytick.major.size": 5, "ytick.minor.size": 2.5, "xtick.major.width": 0.8,
        "ytick.major.width": 0.8, "xtick.minor.width": 0.5, "ytick.minor.width": 0.5,
        "text.usetex": False,
    }  # fmt: skip
    return matplotlib.rc_context({**mplhep.style.ROOT, **sizes})


def _curves() -> tuple[Any, Any]:
    """A figure of one panel. Its margins are fixed: to find them takes as long as to draw."""
    figure = _figure((5.4, 3.6), layout=None)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.13, top=0.96)
    return figure, figure.add_subplot()


def _figure(
    size: tuple[float, float], layout: Literal["constrained"] | None = "constrained"
) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _legend(axes: Any, groups: int) -> None:
    legend = axes.legend(loc="upper right", ncols=1 if groups <= 4 else 2)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # names of branches may be in any script; the page itself shows them all
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
