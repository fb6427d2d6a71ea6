"""Make ttH(bb), ttbar and QCD multijet events with Pythia 8 and FastJet, as ROOT files."""

from __future__ import annotations

import importlib
import multiprocessing
import queue
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from jobs import Job, JobResult, StoppedError, run_job, start_worker
from output import Format
from processes import PROCESSES
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

INSTALL = 'pip install "hepdata-adapters[physics]"'


def fail(message: str) -> NoReturn:
    """End with one line on stderr and the exit code of a usage error."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def require(*modules: str) -> None:
    """End with the install command if a module cannot be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            fail(f"{module} is not available ({error}); install it with: {INSTALL}")


MAX_SEED = 2**31 - 1


class RateColumn(ProgressColumn):
    """Selected events per second."""

    def render(self, task: Task) -> Text:
        """The rate of one progress bar."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} events/s", style="cyan")


def chosen_processes(names: list[str]) -> list[str]:
    """The processes meant by the values of --process, each once, in a fixed order."""
    for name in names:
        if name != "all" and name not in PROCESSES:
            fail(f"unknown process {name!r}; choose from all, {', '.join(PROCESSES)}")
    return [name for name in PROCESSES if name in names or "all" in names]


def plan(
    processes: list[str], events: int, files: int, out: Path, seed: int, storage: Format
) -> list[Job]:
    """The jobs: each process's events spread evenly over its files."""
    return [
        Job(
            process=process,
            file_number=number,
            events=events * (number + 1) // files - events * number // files,
            seed=seed,
            storage=storage,
            path=out / f"{process}_{number}.root",
        )
        for process in processes
        for number in range(files)
    ]


def check(events: int, files: int, seed: int, workers: int) -> None:
    """End with an error if a number makes no sense."""
    if events < 1:
        fail(f"--events must be at least 1, not {events}")
    if not 1 <= files <= events:
        fail(f"--files must be between 1 and the number of events ({events}), not {files}")
    if not 0 <= seed <= MAX_SEED:
        fail(f"--seed must be between 0 and {MAX_SEED}, not {seed}")
    if workers < 1:
        fail(f"--workers must be at least 1, not {workers}")


def progress_bars(console: Console) -> Progress:
    """Name, bar, count, rate and time left."""
    return Progress(
        TextColumn("{task.description:<6}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=120.0,
    )


def run_jobs(jobs: list[Job], workers: int, console: Console) -> list[JobResult]:
    """All jobs, in processes of their own, with progress; results in the order of the jobs."""
    # Spawned, not forked: a fork inherits the state of C++ libraries and of threads.
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=context,
        initializer=start_worker,
        initargs=(reports, stop),
    )
    with pool, progress_bars(console) as progress:
        try:
            futures = [pool.submit(run_job, job) for job in jobs]
            follow(futures, jobs, reports, progress)
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def follow(
    futures: list[Future[JobResult]], jobs: list[Job], reports: Any, progress: Progress
) -> None:
    """Move the bars until all jobs are done or one has failed."""
    total: dict[str, int] = {}
    for job in jobs:
        total[job.process] = total.get(job.process, 0) + job.events
    bars = {process: progress.add_task(process, total=count) for process, count in total.items()}
    while True:
        # Asked before the queue is emptied, so that the last reports are not missed.
        finished = all(future.done() for future in futures)
        for future in futures:
            if future.done():
                future.result()
        try:
            process, selected = reports.get(timeout=0.2)
            progress.advance(bars[process], selected)
        except queue.Empty:
            if finished:
                return


def summary(results: list[JobResult]) -> Table:
    """What was made, a line a file."""
    table = Table("file", "selected", "generated", "efficiency", "sigma/pb", "ms/event", "kB")
    for column in table.columns[1:]:
        column.justify = "right"
    for result in results:
        job = result.job
        table.add_row(
            job.path.name,
            f"{job.events:,}",
            f"{result.generated:,}",
            f"{job.events / result.generated:.3f}",
            f"{result.cross_section:.3g}",
            f"{1000 * result.cpu_seconds / job.events:.1f}",
            f"{job.path.stat().st_size / 1000:,.0f}",
        )
    return table


def main(
    events: Annotated[int, typer.Option(help="Selected events of each process.")] = 2000,
    files: Annotated[int, typer.Option(help="Files they are spread over.")] = 2,
    out: Annotated[Path, typer.Option(help="Directory to write to; made if absent.")] = Path(
        "tth-data"
    ),
    seed: Annotated[int, typer.Option(help="Same seed, same columns, for any --workers.")] = 1,
    workers: Annotated[int, typer.Option(help="Files made at the same time.")] = 2,
    process: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="tth, ttbar, qcd or all; may be given again.",
            show_default="all",
        ),
    ] = None,
    storage: Annotated[
        Format, typer.Option("--format", help="How ROOT stores the columns.")
    ] = Format.ttree,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Make ttH(bb), ttbar and QCD multijet events with Pythia 8 and FastJet, as ROOT files.

    Files are called PROCESS_NUMBER.root and hold the trees Events and Runs.

    Events have at least 4 jets and HT > 400 GeV.

    Expect some 25 (tth), 50 (ttbar) and 200 (qcd) ms of a core per selected event.
    """
    check(events, files, seed, workers)
    processes = chosen_processes(process or ["all"])
    require("pythia8mc", "fastjet")
    jobs = plan(processes, events, files, out, seed, storage)
    existing = [str(job.path) for job in jobs if job.path.exists()]
    if existing and not overwrite:
        fail(f"{existing[0]} exists; use --overwrite to replace files")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"cannot make the directory {out}: {error.strerror}")
    console = Console()
    start = time.monotonic()
    try:
        results = run_jobs(jobs, workers, console)
    except (KeyboardInterrupt, StoppedError):
        print("stopped; unfinished files are removed", file=sys.stderr)
        raise SystemExit(130) from None
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenProcessPool:
        print("error: a worker process died (out of memory?)", file=sys.stderr)
        raise SystemExit(1) from None
    console.print(summary(results))
    console.print(
        f"{sum(job.events for job in jobs):,} events in {len(jobs)} files in {out}, "
        f"{time.monotonic() - start:.0f} s. If you use them, please cite Pythia 8.3 "
        "(arXiv:2203.11601) and FastJet (arXiv:1111.6097).",
        highlight=False,
    )


app = typer.Typer(add_completion=False)
app.command()(main)

if __name__ == "__main__":
    app()
