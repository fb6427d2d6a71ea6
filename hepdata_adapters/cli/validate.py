"""``validate``: check a config against its files, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hepdata_adapters.cli.arguments import Config, Set

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from hepdata_adapters.common.config import RunConfig


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
    """Check a config against its files, and the model it names."""
    from rich.console import Console

    from hepdata_adapters.common.config_file import load_config
    from hepdata_adapters.common.derive import scan
    from hepdata_adapters.common.features import resolve
    from hepdata_adapters.common.specs.compute import binding_of
    from hepdata_adapters.common.specs.model import Specs
    from hepdata_adapters.common.split import describe_split

    console = Console()
    parsed = load_config(config, overrides)
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
    console.print(f"split by {describe_split(parsed.split, layout.identity)}", highlight=False)
    for name, reason in layout.excluded.items():
        console.print(f"excluded {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if parsed.model.factory:
        from hepdata_adapters.common.factory import load_factory

        load_factory(parsed.model.factory)
    if delivery:
        check_delivery(parsed, config, console)
    console.print("valid")


def check_delivery(parsed: RunConfig, path: Path, console: Console) -> None:
    """Print a line for each check of each split. Raises DeliveryError for one that fails."""
    from hepdata_adapters.common.dataset import Dataset
    from hepdata_adapters.common.delivery import exactly_once, resumes
    from hepdata_adapters.common.progress import progress_bar
    from hepdata_adapters.common.split import SPLITS

    with progress_bar("computing specs") as report:
        dataset = Dataset.prepare(parsed, None, path.resolve().parent / ".hepdata", report)
    for split in SPLITS:
        for check, label in ((exactly_once, "every event once"), (resumes, "interrupted")):
            with progress_bar(f"{split}: {label}") as report:
                found = check(dataset, split, progress=report)
            console.print(str(found), highlight=False, soft_wrap=True)
