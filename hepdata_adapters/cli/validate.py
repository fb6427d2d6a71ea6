"""``validate``: check a config against its files, without training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set

if TYPE_CHECKING:
    from rich.console import Console

    from hepdata_adapters.common.config.dataset_config import RunConfig
    from hepdata_adapters.common.events.layout import Layout
    from hepdata_adapters.common.files.manifest import Manifest
    from hepdata_adapters.common.stream.dataset import Dataset

_Made = TypeVar("_Made")


def validate(
    config: Config,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    delivery: Annotated[
        bool,
        typer.Option(
            "--delivery",
            help="Also deliver every split several times, on 1 to 3 ranks and 0 to 2 workers and "
            "interrupted, and check that each event comes exactly once.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at names and types only: read no event.")
    ] = False,
) -> None:
    """Check a config against its events, and the model it names.

    What stands in the way of a training is told at once. Reads all events once, for the specs
    that this needs and to count classes and weights; the specs are kept, so that ``fit`` finds
    them.
    """
    from rich.console import Console

    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.events.split import describe_split
    from hepdata_adapters.common.stream.prepare import NAMED, few, filled_lines, left_out

    console = Console()
    parsed = load_config(config, overrides, user_code=not no_user_code)
    prepared = None if quick and not delivery else checked(parsed)
    manifest, layout = (prepared.manifest, prepared.layout) if prepared else looked_at(parsed)

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
    names = [feature.branch.name for feature in layout.features]
    if names:
        show(f"x is made of {few(names, NAMED)}")
    for name, given in layout.inputs.items():
        show(f"{name} is made of {few(given.branches, NAMED)}")
    show(f"split by {describe_split(parsed.split, layout.identity)}")
    for line in left_out(layout.excluded, len(layout.excluded)):
        show(line)
    if prepared:
        for line in filled_lines(prepared, len(layout.features)):
            show(line)
        show_classes(prepared, console)
        for note in prepared.remarks:
            show(f"NOTE: {note.text}")
        if delivery:
            check_delivery(prepared, console)
    show("valid")


def looked_at(config: RunConfig) -> tuple[Manifest, Layout]:
    """The files and features of a config, as far as names and types tell.

    Raises one error for all that stands in the way of these.
    """
    from hepdata_adapters.common.events.layout import resolve
    from hepdata_adapters.common.files.derived_columns import scan
    from hepdata_adapters.common.specs.compute import binding_of
    from hepdata_adapters.common.specs.model import Specs

    def look() -> tuple[Manifest, Layout]:
        manifest = scan(config)
        layout = resolve(config, manifest)
        if config.specs:
            wanted = binding_of(config, manifest, layout)
            Specs.load(config.specs).verify(wanted, f"specs {config.specs}")
        return manifest, layout

    return _beside_factory(config, look)


def checked(config: RunConfig) -> Dataset:
    """The dataset of a config that a training can take.

    Raises one error for all that stands in the way.
    """
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.runs.run_folder import output_names
    from hepdata_adapters.common.stream.dataset import Dataset
    from hepdata_adapters.common.transform.usable_features import refuse

    def prepare() -> Dataset:
        with progress_bar("computing specs", shown=sys.stderr.isatty()) as report:
            prepared = Dataset.prepare(config, progress=report)
        refuse(prepared.config, prepared.layout, prepared.specs)
        if prepared.layout.task:
            output_names(prepared)
        return prepared

    return _beside_factory(config, prepare)


def _beside_factory(config: RunConfig, make: Callable[[], _Made]) -> _Made:
    """What ``make`` gives; its errors come together with that of the model's factory."""
    from hepdata_adapters.common.config.problems import Faults
    from hepdata_adapters.common.config.user_model import load_factory

    faults = Faults()
    factory = config.model.factory
    if factory:
        faults.ask(lambda: load_factory(factory))
    found = [faults.ask(make)]
    faults.stop()
    return next(made for made in found if made is not None)


def show_classes(dataset: Dataset, console: Console) -> None:
    """A table of the events and weights of each sample and class in each split."""
    from rich.table import Table

    from hepdata_adapters.common.events.split import SPLITS

    table = Table(box=None, pad_edge=False)
    for title in ("sample", "class", "split", "events", "sum of weights"):
        right = title in ("events", "sum of weights")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in class_rows(dataset):
        table.add_row(*row)
    console.print(table, highlight=False, markup=False)
    console.print(
        ", ".join(f"{name} {dataset.specs.events(name):,}" for name in SPLITS), highlight=False
    )


def class_rows(dataset: Dataset) -> list[tuple[str, str, str, str, str]]:
    """The rows of the table: what was counted, and the weights as training will have them."""
    from hepdata_adapters.common.events.split import SPLITS
    from hepdata_adapters.common.specs.census import Census, added

    rows: list[tuple[str, str, str, str, str]] = []
    for number, sample in enumerate(dataset.config.samples):
        counted: Census = {}
        for file, record in zip(dataset.manifest.files, dataset.specs.binding.files, strict=True):
            if file.sample == number:
                counted = added(counted, record.census)
        for name, splits in counted.items():
            for split in SPLITS:
                if split in splits:
                    tally = splits[split]
                    weight = f"{tally.sum * sample.weight.constant:,.6g}"
                    rows.append((sample.name, name or "-", split, f"{tally.events:,}", weight))
    return rows


def check_delivery(dataset: Dataset, console: Console) -> None:
    """Print a line for each check of each split. Raises DeliveryError for one that fails."""
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.events.split import SPLITS
    from hepdata_adapters.common.stream.delivery import exactly_once, resumes

    for split in SPLITS:
        for check, label in ((exactly_once, "every event once"), (resumes, "interrupted")):
            with progress_bar(f"{split}: {label}") as report:
                found = check(dataset, split, progress=report)
            console.print(str(found), highlight=False, soft_wrap=True)
