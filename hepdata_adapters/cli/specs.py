"""``specs``: one pass over the data, to a small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli.arguments import Config, Set


def specs(
    config: Config,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.")] = Path(
        "specs.json"
    ),
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Compute statistics of all branches over the training split."""
    from hepdata_adapters.common.config_file import load_config
    from hepdata_adapters.common.errors import ConfigError
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.specs.compute import compute_specs

    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: name another file or say --overwrite")
    parsed = load_config(config, overrides)
    with progress_bar("computing specs") as report:
        found = compute_specs(parsed, report)
    found.save(output)
    print(f"{output}: {found.summary()}, {len(found.branches)} branches")
