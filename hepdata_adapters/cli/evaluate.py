"""``evaluate``: metrics and pictures of a run, made anew."""

from __future__ import annotations

from hepdata_adapters.cli.arguments import RunFolder


def evaluate(run: RunFolder) -> None:
    """Score all splits of a run again and draw its pictures."""
    from hepdata_adapters.cli.fit import show_metrics
    from hepdata_adapters.torch.run import load_run
    from hepdata_adapters.torch.train import evaluate_run

    show_metrics(evaluate_run(load_run(run)), run)
