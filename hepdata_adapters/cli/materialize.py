"""``materialize``: write the columns that epochs read ahead, to the cache on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set


def materialize(
    config: Config,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="PATH", help="The folder to write to, in place of reading.cache."
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, help="Share the work.")
    ] = 1,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
) -> None:
    """Write what epochs read to a cache on disk, ahead of them.

    Files are decompressed, objects selected and columns derived once; every epoch of every run
    with the same files, branches and cuts, and this folder as reading.cache, then maps the
    result into memory. Only what is not there is read. Exit code 1 if not all could be written.
    """
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.core.errors import DataError
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.core.text import size_text
    from hepdata_adapters.common.stream.dataset import Dataset
    from hepdata_adapters.common.stream.materialize import folder_of, materialize

    parsed = load_config(config, overrides, user_code=not no_user_code)
    if cache is not None:
        reading = parsed.reading.model_copy(update={"cache": str(cache.expanduser().absolute())})
        parsed = parsed.model_copy(update={"reading": reading})
    folder = folder_of(parsed.reading)  # before the work
    with progress_bar("computing specs") as advance:
        dataset = Dataset.prepare(parsed, None, config.resolve().parent / ".hepdata", advance)
    with progress_bar("materializing") as advance:
        found = materialize(dataset, processes, advance)
    rest = found.folder_bytes - found.nbytes
    others = f"; {size_text(rest)} are of other files or configs" if rest else ""
    print(
        f"{folder.folder}: {found.units:,} of {found.of:,} units, {found.written:,} of them new, "
        f"{size_text(found.nbytes)} on disk{others}"
    )
    if found.units < found.of:
        raise DataError(f"not all columns are kept: {found.stopped}")
