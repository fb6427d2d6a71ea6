"""``serve``: answer HTTP requests with an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    directory: Annotated[Path, typer.Argument(help="Folder written by export.")],
    port: Annotated[int, typer.Option(help="Port on loopback; 0 takes a free one.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, help="Model processes.")] = 1,
) -> None:
    """Run TorchServe on loopback until Ctrl-C.

    Says when it is ready and where.
    """
    from hepdata_serving.torchserve.server import serve as run

    raise typer.Exit(run(directory, port=port, workers=workers))
