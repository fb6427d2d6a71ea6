"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="YAML file with samples, features, split, model.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder written by fit.")]
NoUserCode = Annotated[
    bool,
    typer.Option("--no-user-code", help="Refuse a config or a run that names code of its own."),
]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the config, as in training.epochs=5."
    ),
]
