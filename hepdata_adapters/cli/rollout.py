"""``promote``, ``rollback``, ``rollout``: which version of a model is the stable one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.common.core.errors import ConfigError

Directory = Annotated[Path, typer.Argument(help="Folder written by export.")]
Name = Annotated[
    str | None, typer.Option("--model", help="Name of the model, if there are several.")
]


def promote(directory: Directory, model: Name = None) -> None:
    """Make the canary version the stable one.

    For TF Serving it writes the configs for a running server to DIRECTORY/rollout.
    """
    if _is_torchserve(directory):
        from hepdata_serving.torchserve import versions as torchserve

        _tell_default(directory, torchserve.promote(directory, model))
    else:
        from hepdata_serving.tfserving import versions

        _tell(directory, versions.promote(directory, model))


def rollback(directory: Directory, model: Name = None) -> None:
    """Make the version before the stable one stable again.

    For TF Serving it writes the configs for a running server to DIRECTORY/rollout.
    """
    if _is_torchserve(directory):
        from hepdata_serving.torchserve import versions as torchserve

        _tell_default(directory, torchserve.rollback(directory, model))
    else:
        from hepdata_serving.tfserving import versions

        _tell(directory, versions.rollback(directory, model))


def rollout(
    directory: Directory,
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="gRPC of the server.")],
) -> None:
    """Bring a running TF Serving to what the folder serves.

    Sends the configs of the last export, promote or rollback, and waits for each version. A
    server that is there already, as hepdata-adapters serve is by itself, gets none.
    """
    if _is_torchserve(directory):
        raise ConfigError(
            f"{directory} is for TorchServe, which takes other versions when it starts: stop "
            f"it, then run hepdata-adapters serve {directory}"
        )
    from hepdata_serving.tfserving.reload import apply_rollout

    for path in apply_rollout(server, directory):
        print(f"{server} took {path.name}")
    print(f"{server} serves what {directory} says")


def _is_torchserve(directory: Path) -> bool:
    return (directory / "model_store").is_dir()


def _tell_default(directory: Path, name: str) -> None:
    from hepdata_serving.torchserve.versions import served_versions, version_text

    state = served_versions(directory)[name]
    canary = f", {version_text(state.canary)} is beside it" if state.canary else ""
    print(f"{name}: version {version_text(state.stable)} is stable{canary}")
    print(f"a running server takes it when started again: hepdata-adapters serve {directory}")


def _tell(directory: Path, steps: list[Path]) -> None:
    for path in steps:
        print(path)
    print(f"bring a running server there with: hepdata-adapters rollout {directory} HOST:PORT")
