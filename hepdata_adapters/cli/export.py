"""``export``: a run as an archive that a server loads."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli import frameworks
from hepdata_adapters.cli.arguments import NoUserCode, RunFolder


class Format(StrEnum):
    """Kinds of archives."""

    torchserve = "torchserve"
    tfserving = "tfserving"
    onnx = "onnx"


def export(
    run: RunFolder,
    format: Annotated[  # noqa: A002
        Format, typer.Option("--format", metavar="KIND", help="torchserve, tfserving or onnx.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder; RUN/FORMAT by default.")
    ] = None,
    no_user_code: NoUserCode = False,
) -> None:
    """Write a run for a server that answers raw events.

    The archive holds weights, transform and golden events.
    """
    from hepdata_adapters.common.writing import check_folder
    from hepdata_serving.from_run import export_run

    folder = output or run / format.value
    check_folder(folder)
    loaded = frameworks.load_run(run, user_code=not no_user_code)
    archive = export_run(loaded, folder, format.value)
    size = sum(file.stat().st_size for file in (archive, *archive.rglob("*")) if file.is_file())
    print(f"{archive}: {size:,} bytes")
    if format is not Format.onnx:
        print(f"serve it with: hepdata-adapters serve {folder}")
        _tell_canary(folder, format, loaded.config.name)


def _tell_canary(folder: Path, format: Format, name: str) -> None:  # noqa: A002
    versions = import_module(f"hepdata_serving.{format.value}.versions")
    state = versions.served_versions(folder)[name]
    if state.canary:
        print(
            f"version {state.stable} goes on to answer requests that name no version; to let "
            f"{state.canary} do so: hepdata-adapters promote {folder} --model {name}"
        )
