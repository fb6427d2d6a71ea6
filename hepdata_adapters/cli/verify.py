"""``verify``: read a whole data set ahead, and compare it with what earlier passes saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set

if TYPE_CHECKING:
    from rich.console import Console

    from hepdata_adapters.common.files.verify import Report


def verify(
    config: Config,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    checksums: Annotated[
        str | None,
        typer.Option("--checksums", metavar="FILE", help="A list of adler32 of whole files."),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Forget what is known, and learn it again.")
    ] = False,
) -> None:
    """Compare all files with what earlier passes saw of them.

    Reads all used branches. What nobody read before is learned. Exit code 1 on any difference.
    """
    from rich.console import Console

    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.events.layout import resolve
    from hepdata_adapters.common.events.selection import deciding_branches
    from hepdata_adapters.common.files.derived_columns import scan
    from hepdata_adapters.common.files.manifest import FileInfo
    from hepdata_adapters.common.files.verify import verify_files
    from hepdata_adapters.common.specs.compute import file_branches

    parsed = load_config(config, overrides, user_code=not no_user_code)
    # what differs is to be told of all files, not raised for the first
    manifest = scan(parsed.model_copy(update={"verify": "none", "checksums": None}))
    layout = resolve(parsed, manifest)

    def used(file: FileInfo) -> list[str]:
        names = [branch.name for branch in file_branches(parsed, manifest, layout, file)]
        return list(dict.fromkeys([*names, *deciding_branches(layout, file.sample)]))

    done = 0
    with progress_bar("verifying") as shown:

        def progress(entries: int) -> None:
            nonlocal done
            done += entries
            shown(done, manifest.entries)

        wanted = checksums or parsed.checksums
        found = verify_files(manifest, used, checksums=wanted, renew=renew, progress=progress)
        reports = list(found)
    _show(reports, Console())
    if any(report.faults for report in reports):
        raise typer.Exit(1)


def _show(reports: list[Report], console: Console) -> None:
    from rich.console import Console
    from rich.table import Table

    if not console.is_terminal:
        console = Console(width=1000)  # names stay whole in pipes and files
    table = Table(box=None, pad_edge=False)
    for title in ("file", "tree", "entries", "branches", "compared", "learned", "adler32", ""):
        table.add_column(title, overflow="fold")
    for found in reports:
        table.add_row(
            found.file.url, found.file.tree, f"{found.file.entries:,}", str(found.branches),
            str(found.compared), str(found.learned), found.whole,
            "DIFFERS" if found.faults else "good",
        )  # fmt: skip
    console.print(table, highlight=False, markup=False)
    for found in reports:
        for fault in found.faults:
            console.print(
                f"{found.file.url}: {fault}", highlight=False, markup=False, soft_wrap=True
            )
