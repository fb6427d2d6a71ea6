"""``predict``: scores for files, from a run folder or from a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    model: Annotated[str, typer.Argument(metavar="RUN|URL", help="Run folder or server URL.")],
    files: Annotated[list[str], typer.Argument(help="ROOT files (FILE:TREE), globs or URLs.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write: .root or .parquet.")
    ] = Path("scores.root"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
) -> None:
    """Score every event of some files.

    One row an event with its identity, in input order.
    """
    from hepdata_adapters.cli import frameworks
    from hepdata_adapters.common.errors import ConfigError
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.remote import expand, split_tree
    from hepdata_adapters.common.writing import check_writable

    inputs = {Path(path).resolve() for name in files for path in expand(split_tree(name)[0])}
    if output.resolve() in inputs:
        raise ConfigError(f"{output} is one of the files to score")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: name another file or say --overwrite")
    check_writable(output)
    with progress_bar("predicting") as report:
        if model.startswith(("http://", "https://")):
            from hepdata_serving.predict import predict_remote

            events = predict_remote(model, files, output, report)
        else:
            from hepdata_adapters.common.predict import predict_local

            events = predict_local(frameworks.load_run(model), files, output, report)
    print(f"{output}: {events:,} events")
