"""``specs``: one pass over the data, to a small JSON file; merging, comparing and updating them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set

if TYPE_CHECKING:
    from rich.console import Console

    from hepdata_adapters.common.specs.diff import Comparison
    from hepdata_adapters.common.specs.model import Specs

Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Processes = Annotated[int, typer.Option("--processes", metavar="N", help="Share the work.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Of this process. One a core by default."),
]
Dask = Annotated[
    str | None,
    typer.Option("--dask", metavar="ADDRESS", help="Compute on the cluster of this scheduler."),
]


class _ConfigFirst(TyperGroup):
    """``specs CONFIG …`` means ``specs compute CONFIG …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["compute", *args]
        return super().parse_args(ctx, args)


specs_app = typer.Typer(
    cls=_ConfigFirst,
    rich_markup_mode=None,
    help="Compute, merge, compare and update statistics.",
)


@specs_app.command("compute")
def specs(
    config: Config,
    output: Output = Path("specs.json"),
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    overwrite: Overwrite = False,
    processes: Processes = 1,
    threads: Threads = None,
    dask: Dask = None,
    fraction: Annotated[
        float,
        typer.Option("--fraction", help="Read the values of this part of the units only."),
    ] = 1.0,
) -> None:
    """Compute statistics of all branches over the training split."""
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.specs.compute import compute_specs

    _check_output(output, overwrite)
    parsed = load_config(config, overrides, user_code=not no_user_code)
    with progress_bar("computing specs") as report:
        found = compute_specs(
            parsed, report, processes=processes, threads=threads, dask=dask, fraction=fraction
        )
    found.save(output)
    print(f"{output}: {found.summary()}, {len(found.branches)} branches")
    if found.sampled:
        _show_errors(found)


@specs_app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(help="Specs of different files.")],
    output: Output = Path("specs.json"),
    overwrite: Overwrite = False,
) -> None:
    """Join specs of different files to those of all of them."""
    from hepdata_adapters.common.specs.merge import merge_specs
    from hepdata_adapters.common.specs.model import Specs

    _check_output(output, overwrite)
    found = merge_specs([Specs.load(path) for path in files])
    found.save(output)
    print(f"{output}: {found.summary()}, {len(found.branches)} branches")


@specs_app.command()
def update(
    config: Config,
    old: Annotated[Path, typer.Option("--from", metavar="SPECS", help="The specs of before.")],
    output: Output = Path("specs.json"),
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    overwrite: Overwrite = False,
    processes: Processes = 1,
    threads: Threads = None,
    dask: Dask = None,
) -> None:
    """Read only the files that the old specs do not hold."""
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.specs.model import Specs
    from hepdata_adapters.common.specs.parallel import Workers
    from hepdata_adapters.common.specs.update import update_specs

    _check_output(output, overwrite)
    workers = Workers(processes, dask, threads)
    parsed, before = load_config(config, overrides, user_code=not no_user_code), Specs.load(old)
    with progress_bar("updating specs") as report:
        found = update_specs(parsed, before, report, workers=workers)
    found.save(output)
    new = len(found.binding.files) - len(before.binding.files)
    print(f"{output}: {new} new file(s); {found.summary()}, {len(found.branches)} branches")


@specs_app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="Specs of one data set.")],
    after: Annotated[Path, typer.Argument(help="Specs of the other.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    fail_above: Annotated[
        float | None,
        typer.Option("--fail-above", metavar="DRIFT", help="Exit with 1 if a branch drifts more."),
    ] = None,
) -> None:
    """Show how far each branch drifts from one data set to another."""
    from dataclasses import asdict

    from hepdata_adapters.common.core.errors import ConfigError
    from hepdata_adapters.common.specs.diff import above, compare
    from hepdata_adapters.common.specs.model import Specs

    if fail_above is not None and not 0 <= fail_above <= 1:
        raise ConfigError(f"--fail-above is from 0 to 1, not {fail_above:g}")
    found = compare(Specs.load(before), Specs.load(after))
    if as_json:
        document = asdict(found)
        for entry, drift in zip(document["drifts"], found.drifts, strict=True):
            entry["drift"] = drift.drift
        print(json.dumps(document, indent=1))
    else:
        _show_drifts(found)
    if fail_above is not None and (above(found, fail_above) or found.only_before
                                   or found.only_after):  # fmt: skip
        raise typer.Exit(1)


def _check_output(output: Path, overwrite: bool) -> None:
    from hepdata_adapters.common.core.errors import ConfigError
    from hepdata_adapters.common.core.writing import check_writable

    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists: name another file or say --overwrite")
    check_writable(output)


def _show_errors(found: Specs) -> None:
    """What the statistics of a part say of all, with their standard errors."""
    rows = [
        [
            name,
            f"{known.mean:.5g} ± {known.mean_error:.2g}",
            f"{known.quantile(0.5):.5g}",
            " to ".join(
                f"{known.quantile(0.5 + sign * known.rank_error(0.5)):.5g}" for sign in (-1, 1)
            ),
        ]
        for name, known in found.branches.items()
    ]
    _print_table(("branch", "mean", "median", "68 % interval of the median"), rows)


def _show_drifts(found: Comparison) -> None:
    rows = [
        [
            drift.branch,
            f"{drift.drift:.4f}",
            f"{drift.p_value:.2g}",
            f"{drift.before.mean:.5g} | {drift.after.mean:.5g}",
            f"{drift.before.std:.5g} | {drift.after.std:.5g}",
            _both(drift.before.quantiles.get("0.5"), drift.after.quantiles.get("0.5")),
            _both(drift.before.quantiles.get("0.99"), drift.after.quantiles.get("0.99")),
            _both(drift.before.lengths, drift.after.lengths),
            f"{drift.before.nan_share:.3%} | {drift.after.nan_share:.3%}",
        ]
        for drift in found.drifts
    ]
    titles = ("branch", "drift", "p-value", "mean", "std", "median", "99 %", "length", "NaN, inf")
    _print_table(titles, rows)
    for place, names in (("before", found.only_before), ("after", found.only_after)):
        if names:
            print(f"only {place}: {', '.join(names)}")


def _both(one: float | None, other: float | None) -> str:
    shown = ["-" if value is None else f"{value:.5g}" for value in (one, other)]
    return "" if one is None and other is None else " | ".join(shown)


def _print_table(titles: tuple[str, ...], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console: Console = Console()
    if not console.is_terminal:
        console = Console(width=1000)  # names stay whole in pipes and files
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False, markup=False)
