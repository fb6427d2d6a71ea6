"""``promote`` and ``rollback``: which version of a model TF Serving calls stable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Directory = Annotated[Path, typer.Argument(help="Folder written by export --format tfserving.")]
Name = Annotated[
    str | None, typer.Option("--model", help="Name of the model, if there are several.")
]


def promote(directory: Directory, model: Name = None) -> None:
    """Make the canary version the stable one.

    Writes the configs for a running server, in their order, to DIRECTORY/rollout.
    """
    from hepdata_serving.tfserving import versions

    _tell(versions.promote(directory, model))


def rollback(directory: Directory, model: Name = None) -> None:
    """Make the version before the stable one stable again.

    Writes the configs for a running server, in their order, to DIRECTORY/rollout.
    """
    from hepdata_serving.tfserving import versions

    _tell(versions.rollback(directory, model))


def _tell(steps: list[Path]) -> None:
    print("send these to a running server, in this order; models.config is the last one:")
    for path in steps:
        print(f"  {path}")
