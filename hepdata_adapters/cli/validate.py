"""``validate``: check a config against its files, without training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hepdata_adapters.cli.arguments import Config, Set

if TYPE_CHECKING:
    from rich.console import Console

    from hepdata_adapters.common.config import RunConfig
    from hepdata_adapters.common.dataset import Dataset


def validate(
    config: Config,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    delivery: Annotated[
        bool,
        typer.Option(
            "--delivery",
            help="Also deliver every split several times, on 1 to 3 ranks and 0 to 2 workers and "
            "interrupted, and check that each event comes exactly once.",
        ),
    ] = False,
) -> None:
    """Check a config against its events, and the model it names.

    What stands in the way of a training is told at once. The specs that this needs are kept, so
    that ``fit`` finds them.
    """
    from rich.console import Console

    from hepdata_adapters.common.config_file import load_config
    from hepdata_adapters.common.samples import filled_lines, left_out
    from hepdata_adapters.common.split import describe_split

    console = Console()
    parsed = load_config(config, overrides)
    prepared = checked(parsed)
    manifest, layout = prepared.manifest, prepared.layout

    def show(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    for number, sample in enumerate(parsed.samples):
        files = [file for file in manifest.files if file.sample == number]
        label = f"{sample.label:g}" if isinstance(sample.label, float) else sample.label
        events = sum(file.entries for file in files)
        show(f"sample {sample.name}: {len(files)} file(s), {events:,} events, label {label}")
    for file in manifest.empty:
        show(f"no events in {file.url}:{file.tree}")
    kinds = [feature.branch.kind for feature in layout.features]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    task = layout.task or "none, no labels (fit needs a label in each sample)"
    show(f"features: {len(kinds)} ({counts}); task: {task}")
    show(f"split by {describe_split(parsed.split, layout.identity)}")
    for line in [*left_out(layout.excluded), *filled_lines(prepared)]:
        show(line)
    if delivery:
        check_delivery(prepared, console)
    console.print("valid")


def checked(config: RunConfig) -> Dataset:
    """The dataset of a config that a training can take.

    Raises one error for all that stands in the way.
    """
    from hepdata_adapters.common.dataset import Dataset
    from hepdata_adapters.common.factory import load_factory
    from hepdata_adapters.common.problems import Faults
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.run import output_names
    from hepdata_adapters.common.settle import refuse

    def prepare() -> Dataset:
        with progress_bar("computing specs", shown=sys.stderr.isatty()) as report:
            prepared = Dataset.prepare(config, progress=report)
        refuse(prepared.config, prepared.layout, prepared.specs)
        if prepared.layout.task:
            output_names(prepared)
        return prepared

    faults = Faults()
    factory = config.model.factory
    if factory:
        faults.ask(lambda: load_factory(factory))
    found = [faults.ask(prepare)]
    faults.stop()
    return next(prepared for prepared in found if prepared is not None)


def check_delivery(dataset: Dataset, console: Console) -> None:
    """Print a line for each check of each split. Raises DeliveryError for one that fails."""
    from hepdata_adapters.common.delivery import exactly_once, resumes
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.split import SPLITS

    for split in SPLITS:
        for check, label in ((exactly_once, "every event once"), (resumes, "interrupted")):
            with progress_bar(f"{split}: {label}") as report:
                found = check(dataset, split, progress=report)
            console.print(str(found), highlight=False, soft_wrap=True)
