"""``predict``: scores for files, from a run folder, an exported ONNX model or a server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hepdata_adapters.cli.arguments import NoUserCode


def predict(
    model: Annotated[
        str,
        typer.Argument(metavar="RUN|ONNX|URL", help="Run folder, exported ONNX folder or URL."),
    ],
    files: Annotated[list[str], typer.Argument(help="ROOT files (FILE:TREE), globs or URLs.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write: .root or .parquet.")
    ] = Path("scores.root"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The sample of the training whose selection and weight hold."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Score events outside the selection as well.")
    ] = False,
    no_user_code: NoUserCode = False,
) -> None:
    """Score the events of some files.

    One row an event with its identity, sample, split and weight, in input order. Events that the
    selection of their sample leaves out have no score (NaN). A server or an ONNX graph knows
    neither selections nor splits: it scores every event.
    """
    from hepdata_adapters import runs
    from hepdata_adapters.common.core.errors import ConfigError
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.core.writing import check_writable
    from hepdata_adapters.common.files.open import expand, split_tree
    from hepdata_adapters.common.runs.run_folder import PROVENANCE
    from hepdata_serving.onnx.runtime import onnx_folders

    inputs = {Path(path).resolve() for name in files for path in expand(split_tree(name)[0])}
    if output.resolve() in inputs:
        raise ConfigError(f"{output} is one of the files to score")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: name another file or say --overwrite")
    check_writable(output)
    # an export may lie in the folder of its run, which is what is meant then
    is_run = (Path(model) / PROVENANCE).is_file()
    graphs = [] if is_run or "://" in model else onnx_folders(model)
    with progress_bar("predicting") as report:
        if graphs:
            from hepdata_serving.onnx.predict import predict_onnx

            _refuse_sample("an ONNX graph", sample, every)
            if len(graphs) > 1:
                there = ", ".join(map(str, graphs))
                raise ConfigError(f"{model} holds several models: name one of {there}")
            events = predict_onnx(graphs[0], files, output, report)
            said = f"{events:,} events, all scored: a graph knows no selection and no split"
        elif model.startswith(("http://", "https://")):
            from hepdata_serving.predict import predict_remote

            _refuse_sample("a server", sample, every)
            events = predict_remote(model, files, output, report)
            said = f"{events:,} events, all scored: a server knows no selection and no split"
        else:
            from hepdata_adapters.common.runs.predict import predict_local

            run = runs.load_run(model, user_code=not no_user_code)
            predicted = predict_local(run, files, output, report, sample=sample, every=every)
            for remark in predicted.remarks:
                print(remark, file=sys.stderr)
            said = str(predicted)
    print(f"{output}: {said}")


def _refuse_sample(what: str, sample: str | None, every: bool) -> None:
    from hepdata_adapters.common.core.errors import ConfigError

    if sample is not None or every:
        raise ConfigError(
            f"{what} knows no samples, selections or splits and scores every event: "
            "--sample and --all are for run folders"
        )
