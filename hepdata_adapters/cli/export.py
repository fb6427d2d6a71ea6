"""``export``: a run as an archive that a server loads."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli import frameworks
from hepdata_adapters.cli.arguments import RunFolder


class Format(StrEnum):
    """Kinds of archives."""

    torchserve = "torchserve"
    tfserving = "tfserving"
    onnx = "onnx"


def export(
    run: RunFolder,
    format: Annotated[  # noqa: A002
        Format | None,
        typer.Option(
            "--format",
            metavar="KIND",
            help="torchserve, tfserving or onnx; by default what serves the framework of the run.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder; RUN/FORMAT by default.")
    ] = None,
) -> None:
    """Write a run for a server that answers raw events.

    The archive holds weights, transform and golden events.
    """
    from hepdata_serving.from_run import export_run

    loaded = frameworks.load_run(run)
    native = Format.tfserving if loaded.config.framework == "tf" else Format.torchserve
    kind = format or native
    folder = output or run / kind.value
    archive = export_run(loaded, folder, kind.value)
    size = sum(file.stat().st_size for file in (archive, *archive.rglob("*")) if file.is_file())
    print(f"{archive}: {size:,} bytes")
    if kind is not Format.onnx:
        print(f"serve it with: hepdata-adapters serve {folder}")
