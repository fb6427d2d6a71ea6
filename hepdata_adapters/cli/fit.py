"""``fit``: train a model."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from hepdata_adapters.cli.arguments import NoUserCode, Set
from hepdata_adapters.common.core.errors import ConfigError


class FrameworkName(StrEnum):
    """Frameworks that train."""

    torch = "torch"
    tf = "tf"


def fit(
    config: Annotated[
        list[str] | None,
        typer.Argument(
            help="YAML file with samples, features, split, model; or two ROOT files and more, "
            "each with one class of events: the first of class 0.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder; runs/NAME by default.")
    ] = None,
    framework: Annotated[
        FrameworkName | None,
        typer.Option(help="torch (Lightning) or tf (Keras); that of the config by default."),
    ] = None,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run folder.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on with the training of this run folder, alone."
        ),
    ] = None,
) -> None:
    """Train, evaluate and draw; everything goes to the run folder.

    Ctrl-C and SIGTERM stop it after the next batch, and --resume goes on.
    """
    if resume is not None:
        if config or output or framework or overrides or overwrite:
            raise ConfigError(
                "--resume RUN goes on with the config and the folder of the run: nothing else "
                "can be given with it"
            )
        from hepdata_adapters import runs

        show_metrics(runs.resume(resume, user_code=not no_user_code), resume)
        return
    if not config:
        raise ConfigError("a config is missing: fit CONFIG, or fit --resume RUN")
    from hepdata_adapters.common.config.config_file import load_config, samples_config

    chosen = [f"framework={framework.value}"] if framework else []
    changed = [*overrides, *chosen]
    if len(config) > 1:
        parsed = samples_config(config, changed, user_code=not no_user_code)
        for sample in parsed.samples:
            print(f"class {sample.label:g}: {sample.files[0]}", file=sys.stderr)
    else:
        parsed = load_config(config[0], changed, user_code=not no_user_code)
    from hepdata_adapters import runs

    folder = output or Path("runs") / parsed.name
    show_metrics(runs.fit(parsed, folder, overwrite=overwrite), folder)


def show_metrics(metrics: dict[str, Any], folder: Path) -> None:
    """A table of the metrics of each split, the ledger, and where the files are."""
    from rich.console import Console
    from rich.table import Table

    splits = {name: metrics[name] for name in ("train", "validation", "test")}
    names = dict.fromkeys(key for values in splits.values() for key in values if key != "events")
    table = Table(box=None, pad_edge=False)
    for title in ("split", "events", *names):
        table.add_column(title, justify="left" if title == "split" else "right")
    for split, values in splits.items():
        cells = [f"{values[name]:.4f}" if name in values else "" for name in names]
        table.add_row(split, f"{int(values['events']):,}", *cells)
    console = Console()
    console.print(table, highlight=False)
    console.print(f"ledger of the evaluation:\n{metrics['ledger']}", highlight=False, markup=False)
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)
