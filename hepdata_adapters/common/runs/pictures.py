"""Pictures of a trained model: ROC curves, score distributions, predictions against truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.errors import MissingExtraError

COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59")  # arXiv:2107.02270


@dataclass(frozen=True, eq=False)
class Roc:
    """A ROC curve: efficiencies of background and signal for falling thresholds, and its AUC."""

    background: NDArray[Any]
    signal: NDArray[Any]
    auc: float


def plot_roc(path: Path, curves: Mapping[str, Roc]) -> None:
    """Signal against background efficiency; one curve a name (a split, or a class)."""
    figure, axes = _figure()
    for colour, (name, roc) in zip(_cycle(len(curves)), curves.items(), strict=True):
        axes.plot(roc.background, roc.signal, color=colour, label=f"{name}: AUC {roc.auc:.3f}")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":", label="guessing")
    axes.set(xlabel="background efficiency", ylabel="signal efficiency", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    _save(figure, path)


def plot_scores(
    path: Path,
    train: Mapping[str, NDArray[Any]],
    test: Mapping[str, NDArray[Any]],
    label: str = "score",
    bins: int = 40,
) -> None:
    """Normalised score distributions by class: training filled, test as points with errors.

    A model that learnt its training events by heart shows points off the filled histograms.
    """
    import hist

    figure, axes = _figure()
    for colour, name in zip(_cycle(len(test)), test, strict=True):
        axis = hist.axis.Regular(bins, 0.0, 1.0, label=label)
        filled = hist.Hist(axis).fill(np.clip(train[name], 0, np.nextafter(1, 0)))
        points = hist.Hist(axis).fill(np.clip(test[name], 0, np.nextafter(1, 0)))
        width, centres = axis.widths[0], axis.centers
        total = max(filled.sum(), 1) * width
        axes.stairs(
            filled.values() / total, axis.edges, fill=True, alpha=0.35, color=colour,
            label=f"{name}, training ({len(train[name]):,})",
        )  # fmt: skip
        total = max(points.sum(), 1) * width
        axes.errorbar(
            centres, points.values() / total, np.sqrt(points.values()) / total,
            fmt="o", markersize=4, color=colour, label=f"{name}, test ({len(test[name]):,})",
        )  # fmt: skip
    axes.set(xlabel=label, ylabel="events / bin width, normalised", xlim=(0, 1))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)
    axes.legend(loc="upper center", ncols=min(2, len(test)), fontsize=10)
    _save(figure, path)


def plot_regression(path: Path, truth: NDArray[Any], predicted: NDArray[Any], name: str) -> None:
    """Predicted against true values, as a two-dimensional histogram."""
    figure, axes = _figure()
    low, high = np.percentile(np.concatenate([truth, predicted]), [0.1, 99.9])
    bounds = (low, high if high > low else low + 1)
    counts, x, y = np.histogram2d(truth, predicted, bins=50, range=(bounds, bounds))
    mesh = axes.pcolormesh(x, y, np.where(counts.T > 0, counts.T, np.nan), cmap="viridis")
    figure.colorbar(mesh, ax=axes, label="events")
    axes.plot(bounds, bounds, color="0.4", linestyle=":")
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    _save(figure, path)


def _figure() -> tuple[Any, Any]:
    try:
        import matplotlib
        import mplhep
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "plots") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**mplhep.style.ROOT, "font.size": 14, "axes.labelsize": 16}):
        figure = Figure(figsize=(7, 6.5), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.add_subplot()


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _cycle(count: int) -> Sequence[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
