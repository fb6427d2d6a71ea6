"""Progress of long work on stderr, with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from rich.text import Text


class RateColumn(ProgressColumn):
    """Steps a second, in events."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} events/s" if speed else "")


def _silent(done: int, total: int) -> None:
    """Report nothing."""


@contextmanager
def progress_bar(
    label: str, *, shown: bool = True, console: Console | None = None
) -> Iterator[Callable[[int, int], None]]:
    """A callback ``report(done, total)`` that draws a bar on a terminal, one line elsewhere.

    The bar appears with the first report: work that is not needed shows nothing.
    """
    if not shown:
        yield _silent
        return
    console = console or Console(file=sys.stderr)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task(label, total=None)

    def report(done: int, total: int) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total)
        if done >= total and not console.is_terminal:
            console.print(f"{label}: {done:,} events", highlight=False)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()
