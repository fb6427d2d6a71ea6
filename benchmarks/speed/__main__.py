"""Events per second from ROOT files to training batches: this package beside its rivals.

``run`` makes the inputs (with real ROOT, once), measures every system in processes of their own
that take turns, and prints tables; figures, picture and tables stand then in the folder
``results``. Stopped, it goes on where it was. ``show`` prints the tables of a JSON again,
``publish`` puts one into the docs and the README.
"""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.speed import inputs, pages
from benchmarks.speed.campaign import Campaign
from benchmarks.speed.chart import draw
from benchmarks.speed.steps import Executor, Settings
from benchmarks.speed.systems import SYSTEMS, System
from benchmarks.speed.table import show as show_tables
from benchmarks.speed.workloads import Workload, workloads

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
_RESULTS, _CHART = "benchmark.json", "benchmark.png"
Folder = Annotated[Path | None, typer.Option(help="Of inputs, results and caches.")]
Only = Annotated[
    list[str] | None,
    typer.Option(help="A workload or a system (see list); may be given several times."),
]
Python = Annotated[str | None, typer.Option(help="A Python with it; else one is made once.")]
Scale = Annotated[float, typer.Option(min=0.01, help="Of the events in each file (100,000).")]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny inputs: to see that all works.")]


@app.command()
def run(
    only: Only = None,
    repeat: Annotated[int, typer.Option(min=1, help="Processes of each system.")] = 3,
    epochs: Annotated[int, typer.Option(min=2, help="Of each process.")] = 3,
    longest: Annotated[float, typer.Option(help="Seconds until a process is given up.")] = 900.0,
    scale: Scale = 1.0,
    quick: Quick = False,
    check: Annotated[bool, typer.Option(help="Compare 1,000 events with uproot.")] = True,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier measurements.")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say what would run and how long.")
    ] = False,
    folder: Folder = None,
    root_python: Python = None,
    weaver_python: Python = None,
    f9columnar_python: Python = None,
) -> None:
    """Measure, print tables, and write JSON and picture. Exit code 1 if one of ours is wrong."""
    console = _console()
    place = folder or inputs.default_folder()
    chosen, systems = _choose(only, scale, quick)
    settings = Settings(repeat, epochs, longest, check)
    pythons = {"root": root_python, "weaver": weaver_python, "f9columnar": f9columnar_python}
    campaign = Campaign(place, chosen, systems, settings, pythons, _teller(console), fresh)
    steps = list(campaign.steps())
    minutes = campaign.estimate(steps) / 60
    console.print(
        f"{len(steps)} measurements of {len(systems)} systems on {len(chosen)} workloads, about "
        f"{minutes:.0f} minutes; inputs and results in {place}", highlight=False,
    )  # fmt: skip
    if estimate:
        return
    # SIGTERM as Ctrl-C: a process that is being measured ends with the run
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    document = campaign.run()
    results = place / "results"
    results.mkdir(exist_ok=True)
    (results / _RESULTS).write_text(json.dumps(document, indent=1) + "\n")
    show_tables(document, console)
    try:
        draw(document, results / _CHART)
    except (ImportError, ValueError) as error:
        console.print(f"no picture: {error}", markup=False)
    console.print(f"{results / _RESULTS}, {results / _CHART}", markup=False, highlight=False)
    if _wrong(document):
        raise typer.Exit(1)


@app.command("list")
def list_all(scale: Scale = 1.0, quick: Quick = False) -> None:
    """Workloads and systems, by the names that --only takes."""
    console = _console()
    for workload in workloads(scale, quick=quick):
        files = f"{workload.used} × {workload.inputs.events:,} events"
        console.print(f"{workload.key:18} {workload.title}, {files}", markup=False)
    console.print()
    for system in SYSTEMS:
        console.print(f"{system.key:18} {system.title}", markup=False)


@app.command("inputs")
def make_inputs(
    only: Only = None,
    scale: Scale = 1.0,
    quick: Quick = False,
    folder: Folder = None,
    root_python: Python = None,
) -> None:
    """Make the inputs alone."""
    console = _console()
    place = folder or inputs.default_folder()
    executor = Executor(place, Settings(), {"root": root_python}, _teller(console))
    for workload in _choose(only, scale, quick)[0]:
        paths = executor.make_inputs(workload)
        console.print(f"{workload.key}: {paths[0].parent}", markup=False, highlight=False)


@app.command()
def show(results: Annotated[Path, typer.Argument(help="A JSON that run has written.")]) -> None:
    """Print the tables of a run."""
    show_tables(json.loads(results.read_text()), _console())


@app.command()
def publish(
    results: Annotated[Path | None, typer.Argument(help="JSON; by default that of run.")] = None,
    folder: Folder = None,
) -> None:
    """Copy the figures of a quiet machine into docs/, and make the pages that show them anew."""
    source = results or (folder or inputs.default_folder()) / "results" / _RESULTS
    document = json.loads(source.read_text())
    draw(document, pages.CHART)
    shutil.copyfile(source, pages.RESULTS)
    for page in pages.PAGES:
        page.write_text(pages.filled(page, document))


def _choose(
    only: list[str] | None, scale: float, quick: bool
) -> tuple[list[Workload], list[System]]:
    """What --only names: these workloads (or all) with these systems (or all)."""
    known = workloads(scale, quick=quick)
    if not only:
        return known, list(SYSTEMS)
    keys = set(only)
    wrong = keys - {one.key for one in known} - {one.key for one in SYSTEMS}
    if wrong:
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: see list", param_hint="--only")
    chosen = [one for one in known if one.key in keys] or known
    systems = [one for one in SYSTEMS if one.key in keys] or list(SYSTEMS)
    return chosen, systems


def _console() -> Console:
    """Wide enough for the tables, in a file or a pipe, too."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _teller(console: Console) -> Any:
    return lambda text: console.print(text, markup=False, highlight=False)


def _wrong(document: dict[str, Any]) -> bool:
    """Whether one of ours delivered anything else than each event once, as it is."""
    ours = {one["key"] for one in document["systems"] if one["kind"] in ("ours", "specs")}
    runs = [run for run in document["runs"] if run["system"] in ours]
    faults = ("different", "missing", "repeated", "lost", "extra")
    return any(
        "error" in run or any(run.get("check", {}).get(fault) for fault in faults) for run in runs
    )


if __name__ == "__main__":
    app()
