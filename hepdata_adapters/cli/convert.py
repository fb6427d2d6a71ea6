"""``convert``: weaver's data config as a config of ours."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def convert(
    config: Annotated[Path, typer.Argument(help="YAML file: a data config of weaver.")],
    files: Annotated[
        list[str],
        typer.Option(
            "--files",
            metavar="NAME=GLOB",
            help="Files of a sample; repeat it for more samples, or more files of one.",
        ),
    ] = [],  # noqa: B006 (typer reads the default)
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the config here, not to stdout.")
    ] = None,
) -> None:
    """Make a config of ours from one of weaver.

    What has no equivalent is listed: on stderr, and in comments at the top of the config.
    """
    from hepdata_adapters.common.config.config_file import read_document
    from hepdata_adapters.common.core.writing import write_whole
    from hepdata_adapters.common.weaver import convert as converted

    folder = out.parent if out else Path()
    found = converted(read_document(config), _samples(files, folder), str(config))
    text = found.yaml(config.name)
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text)
    for note in found.notes:
        print(note, file=sys.stderr)


def _samples(given: list[str], folder: Path) -> dict[str, list[str]]:
    """The globs of each sample, relative ones as seen from the folder of the config."""
    import os

    from hepdata_adapters.common.core.errors import ConfigError

    samples: dict[str, list[str]] = {}
    for option in given:
        name, equals, glob = option.partition("=")
        if not equals or not name or not glob:
            raise ConfigError(f"--files {option}: write NAME=GLOB")
        if "://" not in glob and not Path(glob).is_absolute():
            glob = os.path.relpath(glob, folder)
        samples.setdefault(name, []).append(glob)
    return samples
