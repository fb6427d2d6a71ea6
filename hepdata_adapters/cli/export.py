"""``export``: a run as an archive that a server loads."""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli.arguments import NoUserCode, RunFolder


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
    no_user_code: NoUserCode = False,
) -> None:
    """Write a run for a server that answers raw events.

    The archive holds weights, transform and golden events.
    """
    from hepdata_adapters import runs
    from hepdata_adapters.common.core.writing import check_folder
    from hepdata_serving.from_run import export_run

    kind = format or _native(run, user_code=not no_user_code)
    folder = output or run / kind.value
    check_folder(folder)
    loaded = runs.load_run(run, user_code=not no_user_code)
    archive = export_run(loaded, folder, kind.value)
    size = sum(file.stat().st_size for file in (archive, *archive.rglob("*")) if file.is_file())
    print(f"{archive}: {size:,} bytes")
    print(f"serve it with: hepdata-adapters serve {folder}")
    if kind is not Format.onnx:
        _tell_canary(folder, kind, loaded.config.name)


def _tell_canary(folder: Path, format: Format, name: str) -> None:  # noqa: A002
    versions = import_module(f"hepdata_serving.{format.value}.versions")
    state = versions.served_versions(folder)[name]
    if state.canary:
        print(
            f"version {state.stable} goes on to answer requests that name no version; to let "
            f"{state.canary} do so: hepdata-adapters promote {folder} --model {name}"
        )


def _native(run: Path, *, user_code: bool) -> Format:
    """What serves the framework of a run."""
    from hepdata_adapters.common.runs.run_folder import framework_of

    framework = framework_of(run, user_code=user_code)
    return Format.tfserving if framework == "tf" else Format.torchserve
