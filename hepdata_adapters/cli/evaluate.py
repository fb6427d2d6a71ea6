"""``evaluate``: metrics and pictures of a run, made anew."""

from __future__ import annotations

from hepdata_adapters.cli.arguments import NoUserCode, RunFolder


def evaluate(run: RunFolder, no_user_code: NoUserCode = False) -> None:
    """Score all splits of a run again and draw its pictures."""
    from hepdata_adapters import runs
    from hepdata_adapters.cli.fit import show_metrics
    from hepdata_adapters.common.runs.evaluate import evaluate_run

    show_metrics(evaluate_run(runs.load_run(run, user_code=not no_user_code)), run)
