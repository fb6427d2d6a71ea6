"""``evaluate``: metrics and pictures of a run, made anew."""

from __future__ import annotations

from hepdata_adapters.cli import frameworks
from hepdata_adapters.cli.arguments import RunFolder


def evaluate(run: RunFolder) -> None:
    """Score all splits of a run again and draw its pictures."""
    from hepdata_adapters.cli.fit import show_metrics
    from hepdata_adapters.common.evaluate import evaluate_run

    show_metrics(evaluate_run(frameworks.load_run(run)), run)
