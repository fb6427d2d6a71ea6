"""``report``: the data and the transform on one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set


def report(
    config: Config,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.")] = Path(
        "report.html"
    ),
    events: Annotated[
        int | None,
        typer.Option(min=1, help="Read about so many training events; all by default."),
    ] = None,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Draw each feature before and after the transform."""
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.core.errors import ConfigError
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.core.writing import check_writable
    from hepdata_adapters.common.report import write_report
    from hepdata_adapters.common.stream.dataset import Dataset

    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: name another file or say --overwrite")
    check_writable(output)
    parsed = load_config(config, overrides, user_code=not no_user_code)
    with progress_bar("computing specs") as advance:
        dataset = Dataset.prepare(parsed, None, config.resolve().parent / ".hepdata", advance)
    with progress_bar("reading training events") as advance:
        write_report(output, dataset, events, advance)
    print(f"{output}: {len(dataset.transform.columns)} branches, {output.stat().st_size:,} bytes")
