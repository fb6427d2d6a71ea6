"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="YAML file with samples, features, split, model.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder written by fit.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the config, as in training.epochs=5."
    ),
]
