"""``serve``: answer requests with an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    directory: Annotated[Path, typer.Argument(help="Folder written by export.")],
    port: Annotated[int, typer.Option(help="HTTP port on loopback; 0 takes a free one.")] = 8080,
    grpc_port: Annotated[
        int, typer.Option(help="gRPC port (tfserving only); 0 takes a free one.")
    ] = 8500,
    workers: Annotated[int, typer.Option(min=1, help="Model processes (torchserve only).")] = 1,
) -> None:
    """Serve an exported model on loopback until Ctrl-C.

    Runs TorchServe, or a server with TF Serving's routes. Says when it is ready and where.
    """
    from hepdata_adapters.common.errors import FileError

    if (directory / "models.config").is_file():
        from hepdata_serving.tfserving.server import serve as run_tfserving

        raise typer.Exit(run_tfserving(directory, port=port, grpc_port=grpc_port))
    if not (directory / "model_store").is_dir():
        raise FileError(
            "holds neither models.config (tfserving) nor model_store (torchserve): "
            "write it with hepdata-adapters export",
            file=str(directory),
        )
    from hepdata_serving.torchserve.server import serve as run_torchserve

    raise typer.Exit(run_torchserve(directory, port=port, workers=workers))
