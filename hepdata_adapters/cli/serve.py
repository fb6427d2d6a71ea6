"""``serve``: answer requests with an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    directory: Annotated[Path, typer.Argument(help="Folder written by export.")],
    port: Annotated[
        int | None,
        typer.Option(
            help="HTTP port; 0 takes a free one. 8080 by default, or as config.properties says."
        ),
    ] = None,
    grpc_port: Annotated[
        int, typer.Option(help="gRPC port (tfserving only); 0 takes a free one.")
    ] = 8500,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes of each model (torchserve only); as config.properties says by default.",
        ),
    ] = None,
) -> None:
    """Serve an exported model on loopback until Ctrl-C.

    Elsewhere only where its settings say so. Runs TorchServe, with all settings of
    config.properties (https, certificates, tokens), a server with TF Serving's routes, or one that
    runs ONNX graphs and answers as TorchServe does. Says when it is ready and where.
    """
    from hepdata_adapters.common.core.errors import FileError

    if (directory / "models.config").is_file():
        _check_tensorflow()
        from hepdata_serving.tfserving.server import serve as run_tfserving

        raise typer.Exit(
            run_tfserving(directory, port=8080 if port is None else port, grpc_port=grpc_port)
        )
    if _has_onnx(directory):
        from hepdata_serving.onnx.server import serve as run_onnx

        raise typer.Exit(run_onnx(directory, port=8080 if port is None else port))
    if not (directory / "model_store").is_dir():
        raise FileError(
            "holds neither models.config (tfserving) nor model_store (torchserve) nor a "
            "model.onnx (onnx): write it with hepdata-adapters export",
            file=str(directory),
        )
    from hepdata_serving.torchserve.server import serve as run_torchserve

    raise typer.Exit(run_torchserve(directory, port=port, workers=workers))


def _has_onnx(directory: Path) -> bool:
    """Whether the folder was written by an export as ONNX, and by no other."""
    from hepdata_serving.onnx.runtime import onnx_folders

    return not (directory / "model_store").is_dir() and bool(onnx_folders(directory))


def _check_tensorflow() -> None:
    """Raise MissingExtraError where the server could not run a SavedModel."""
    from importlib.util import find_spec

    from hepdata_adapters.common.core.errors import MissingExtraError

    for module in ("tensorflow", "tensorflow_serving"):
        if find_spec(module) is None:
            raise MissingExtraError(module, "tf", "which runs the models of this folder")
