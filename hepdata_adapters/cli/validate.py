"""``validate``: check a config against its files, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set

if TYPE_CHECKING:
    from rich.console import Console

    from hepdata_adapters.common.dataset import Dataset


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
    """Check a config against its files, and the model it names.

    Reads all events once, for the specs that a training needs and to count classes and weights;
    the specs are kept for it.
    """
    from rich.console import Console

    from hepdata_adapters.common.config_file import load_config
    from hepdata_adapters.common.dataset import Dataset
    from hepdata_adapters.common.derive import scan
    from hepdata_adapters.common.features import resolve
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.samples import NAMED, few
    from hepdata_adapters.common.specs.compute import binding_of
    from hepdata_adapters.common.specs.model import Specs
    from hepdata_adapters.common.split import describe_split

    console = Console()
    parsed = load_config(config, overrides, user_code=not no_user_code)
    manifest = scan(parsed)
    layout = resolve(parsed, manifest)
    if parsed.specs:
        wanted = binding_of(parsed, manifest, layout)
        Specs.load(parsed.specs).verify(wanted, f"specs {parsed.specs}")
    for number, sample in enumerate(parsed.samples):
        files = [file for file in manifest.files if file.sample == number]
        label = f"{sample.label:g}" if isinstance(sample.label, float) else sample.label
        events = sum(file.entries for file in files)
        console.print(
            f"sample {sample.name}: {len(files)} file(s), {events:,} events, label {label}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for file in manifest.empty:
        console.print(f"no events in {file.url}:{file.tree}", highlight=False, soft_wrap=True)
    kinds = [feature.branch.kind for feature in layout.features]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    console.print(f"features: {len(kinds)} ({counts}); task: {layout.task or 'none, no labels'}")
    names = [feature.branch.name for feature in layout.features]
    if names:
        console.print(f"x is made of {few(names, NAMED)}", highlight=False, soft_wrap=True)
    for name, given in layout.inputs.items():
        made = few(given.branches, NAMED)
        console.print(f"{name} is made of {made}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"split by {describe_split(parsed.split, layout.identity)}", highlight=False)
    for name, reason in layout.excluded.items():
        console.print(f"excluded {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if parsed.model.factory:
        from hepdata_adapters.common.factory import load_factory

        load_factory(parsed.model.factory)
    if delivery or not quick:
        with progress_bar("computing specs") as report:
            dataset = Dataset.prepare(parsed, progress=report)
        show_classes(dataset, console)
        for note in dataset.remarks:
            console.print(f"NOTE: {note.text}", highlight=False, markup=False, soft_wrap=True)
        if delivery:
            check_delivery(dataset, console)
    console.print("valid")


def show_classes(dataset: Dataset, console: Console) -> None:
    """A table of the events and weights of each sample and class in each split."""
    from rich.table import Table

    from hepdata_adapters.common.split import SPLITS

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
    from hepdata_adapters.common.specs.census import Census, added
    from hepdata_adapters.common.split import SPLITS

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
    from hepdata_adapters.common.delivery import exactly_once, resumes
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.split import SPLITS

    for split in SPLITS:
        for check, label in ((exactly_once, "every event once"), (resumes, "interrupted")):
            with progress_bar(f"{split}: {label}") as report:
                found = check(dataset, split, progress=report)
            console.print(str(found), highlight=False, soft_wrap=True)
