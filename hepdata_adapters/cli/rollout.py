"""``promote``, ``rollback``, ``rollout``: which version of a model TF Serving calls stable."""

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

    Writes the configs for a running server to DIRECTORY/rollout.
    """
    from hepdata_serving.tfserving import versions

    _tell(directory, versions.promote(directory, model))


def rollback(directory: Directory, model: Name = None) -> None:
    """Make the version before the stable one stable again.

    Writes the configs for a running server to DIRECTORY/rollout.
    """
    from hepdata_serving.tfserving import versions

    _tell(directory, versions.rollback(directory, model))


def rollout(
    directory: Directory,
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="gRPC of the server.")],
) -> None:
    """Bring a running server to what the folder serves.

    Sends the configs of the last export, promote or rollback, and waits for each version.
    """
    from hepdata_serving.tfserving.reload import apply_rollout

    for path in apply_rollout(server, directory):
        print(f"{server} took {path.name}")
    print(f"{server} serves what {directory} says")


def _tell(directory: Path, steps: list[Path]) -> None:
    for path in steps:
        print(path)
    print(f"bring a running server there with: hepdata-adapters rollout {directory} HOST:PORT")
