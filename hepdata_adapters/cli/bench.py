"""``bench``: how fast events are read and trained on, and where the time goes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hepdata_adapters.cli.arguments import Config, NoUserCode, Set
from hepdata_adapters.cli.fit import FrameworkName
from hepdata_adapters.common.core.errors import ConfigError

if TYPE_CHECKING:
    from hepdata_adapters.common.runs.bench import Measured, Throughput
    from hepdata_adapters.common.runs.first_start import FirstStart
    from hepdata_adapters.common.runs.throughput_advice import Advice, Limit
    from hepdata_adapters.common.runs.throughput_setting import Setting

VERSION = 1


def bench(
    config: Config,
    overrides: Set = [],  # noqa: B006 (typer reads the default)
    no_user_code: NoUserCode = False,
    framework: Annotated[
        FrameworkName | None, typer.Option(help="torch or tf; that of the config by default.")
    ] = None,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0.1, max=3600, help="Length of each measurement."),
    ] = 10.0,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=0,
            help="Worker processes that read; training.workers of the config by default.",
        ),
    ] = None,
    first_start: Annotated[
        bool,
        typer.Option("--first-start", help="Also measure a start that has to compile its kernels."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all numbers as JSON.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw the stages (PNG, PDF).")
    ] = None,
) -> None:
    """Measure reading and training, and say who is the limit.

    Says what to change, too. Measures the loader of the training events alone, the training step
    alone (as fit does it, on batches in memory), and both together, each for some seconds after
    a warm-up. Trains a model that is thrown away; writes nothing but specs and the picture.
    Without labels there is no step.
    """
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.runs import throughput_advice as advice
    from hepdata_adapters.common.runs.throughput_setting import setting_of

    changed = [*overrides, *([f"framework={framework.value}"] if framework else [])]
    changed += [] if workers is None else [f"training.workers={workers}"]
    if picture:
        _check_picture(picture)
    parsed = load_config(config, changed, user_code=not no_user_code)
    started = time.perf_counter()
    prepared = _prepared(parsed)
    opened = time.perf_counter() - started
    setting = setting_of(prepared, parsed, parsed.training.workers)
    rig = _rig(parsed.framework, prepared, parsed)
    found = _measured(rig, setting, seconds)
    start = _first_start(config, changed, not no_user_code) if first_start else None
    limit, told = advice.limit_of(found), advice.advice_for(found, setting)
    remarks = advice.remarks_on(found, setting)
    if picture:
        from hepdata_adapters.common.runs.throughput_picture import draw

        draw(picture, found, f"{parsed.name}: {limit.text.partition(';')[0]}")
    if as_json:
        document = {
            "version": VERSION,
            "config": str(config),
            "setting": setting.document(),
            "seconds_for_files_and_specs": round(opened, 3),
            "loader": found.loader.document(),
            "loader_with_workers": found.outside.document() if found.outside else None,
            "step": found.step.document() if found.step else None,
            "no_step": rig.no_step,
            "both": found.both.document() if found.both else None,
            "first_start": start.document() if start else None,
            "limit": limit.document(),
            "advice": [one.document() for one in told],
            "remarks": remarks,
        }
        print(json.dumps(document, indent=1))
        return
    _Report(setting, found, opened, rig.no_step).show(start, limit, told, remarks)
    if picture:
        print(f"picture: {picture}")


def _check_picture(path: Path) -> None:
    """Raise for what would only show after the measurement."""
    from hepdata_adapters.common.core.errors import MissingExtraError
    from hepdata_adapters.common.core.writing import check_writable

    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"--picture writes .png, .pdf or .svg, not {path.name!r}")
    try:
        import matplotlib  # noqa: F401
        import mplhep  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "plots") from None
    check_writable(path)


def _prepared(config: Any) -> Any:
    from hepdata_adapters.common.core.machine import check_processes
    from hepdata_adapters.common.core.progress import progress_bar
    from hepdata_adapters.common.stream.dataset import Dataset
    from hepdata_adapters.common.transform.usable_features import refuse

    check_processes("training.workers", config.training.workers)
    with progress_bar("computing specs", shown=sys.stderr.isatty()) as report:
        prepared = Dataset.prepare(config, progress=report)
    refuse(prepared.config, prepared.layout, prepared.specs)
    if not prepared.events("train"):
        raise ConfigError("the training split has no events: there is nothing to measure")
    return prepared


def _rig(framework: str, prepared: Any, config: Any) -> Any:
    from importlib import import_module

    from hepdata_adapters.runs import without_greetings

    with without_greetings():
        room = import_module(f"hepdata_adapters.{framework}.training.throughput")
    return room.rig(prepared, config)


def _measured(rig: Any, setting: Setting, seconds: float) -> Throughput:
    from hepdata_adapters.common.runs.bench import measure

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    memory = setting.memory
    chunks = memory.chunk_size * memory.streams
    return measure(rig, setting.events, seconds, setting.workers, tell, chunks)


def _first_start(config: Path, overrides: list[str], user_code: bool) -> FirstStart:
    from hepdata_adapters.common.runs.first_start import first_start

    print("starting anew, with no kernel compiled …", file=sys.stderr)
    return first_start(config, overrides, user_code=user_code)


class _Report:
    """The tables and sentences of a measurement."""

    def __init__(self, setting: Setting, found: Throughput, opened: float, no_step: str) -> None:
        from rich.console import Console

        self._setting, self._found, self._opened = setting, found, opened
        self._no_step = no_step
        console = Console()
        self._console = console if console.is_terminal else Console(width=1000)

    def show(
        self, start: FirstStart | None, limit: Limit, advice: list[Advice], remarks: list[str]
    ) -> None:
        """Print all of it."""
        setting = self._setting
        self._say(
            f"{setting.framework}, {setting.files} file(s) "
            f"({setting.tree}, {setting.compression}), {setting.events:,} training events, "
            f"{setting.read_columns} branches read, {setting.columns:,} columns in x"
        )
        self._say(
            f"batches of {setting.batch_size:,}, {setting.threads} thread(s), "
            f"{setting.workers} worker(s), {setting.cores} core(s)\n"
        )
        self._rates()
        self._stages("where the loader's time goes", self._found.loader)
        if self._found.step:
            self._stages("where the step's time goes", self._found.step)
        self._memory()
        self._start(start)
        self._say(f"\n{limit.text}")
        for one in advice:
            self._say(f"- {one}")
        for remark in remarks:
            self._say(f"NOTE: {remark}")

    def _rates(self) -> None:
        rows = []
        measured = {"loader": self._found.loader, "step": self._found.step,
                    "both": self._found.both}  # fmt: skip
        if self._found.outside:
            workers = f"loader, {self._setting.workers} worker(s)"
            measured = {"loader, in process": measured.pop("loader"),
                        workers: self._found.outside, **measured}  # fmt: skip
        for name, one in measured.items():
            if one is None:
                continue
            rate = one.rate
            mb = f"{rate.nbytes / rate.seconds / 1e6:,.0f}" if rate.nbytes else ""
            read = "" if rate.read is None else f"{rate.read / rate.seconds / 1e6:,.0f}"
            rows.append((name, f"{rate.events_per_second:,.0f}", mb, read, f"{rate.cores:.2f}"))
        titles = ("", "events/s", "MB/s of batches", "MB/s of files", "cores busy")
        self._table(titles, rows)
        if self._no_step:
            self._say(f"no training step: {self._no_step}")

    def _stages(self, title: str, one: Measured) -> None:
        from hepdata_adapters.common.runs.stages import MEANING, WAITING

        rows = [
            (
                row.stage,
                f"{row.seconds:.2f}",
                "" if row.stage == WAITING else f"{row.share:.1%}",
                f"{row.us_per_event:.2f}",
                MEANING[row.stage],
                row.inside.removeprefix("hepdata_adapters."),
            )
            for row in one.stages
        ]
        self._say(f"\n{title}")
        self._table(("stage", "thread s", "share", "µs/event", "what", "mostly in"), rows)

    def _memory(self) -> None:
        memory, found = self._setting.memory, self._found
        given = "reading.memory" if memory.given else "by default"
        self._say(
            f"\nmemory for reading: {_size(memory.budget)} ({given}): "
            f"chunks {_size(memory.chunks)} ({memory.streams} streams × "
            f"{memory.chunk_size:,} events × {memory.event_bytes:,} bytes), "
            f"the chunk ahead {_size(memory.ahead)}, decompressed units {_size(memory.units)} "
            f"(all data would take {_size(memory.data)})"
        )
        last = found.both or found.loader
        if found.loader.peak and last.peak:
            trained = f", {_size(last.peak)} with the training" if found.both else ""
            self._say(f"peak of this process: {_size(found.loader.peak)} reading{trained}")
        if found.outside and found.outside.peak_workers:
            peaks = ", ".join(map(_size, found.outside.peak_workers))
            self._say(f"peak of the processes under it: {peaks}")

    def _start(self, start: FirstStart | None) -> None:
        self._say(
            f"files and specs took {self._opened:.2f} s, the first batch "
            f"{self._found.delivered.first:.2f} s"
        )
        if start:
            first, later = start.first, start.later
            self._say(
                f"first start ever: {first.total:.1f} s until the first batch; a later one "
                f"{later.total:.1f} s (imports {later.imports:.1f}, files and specs "
                f"{later.files:.1f}, batch {later.batch:.1f}); the framework's import comes on top"
            )

    def _table(self, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        left = ("", "stage", "what", "mostly in")
        for title in titles:
            table.add_column(title, justify="left" if title in left else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table, highlight=False, markup=False)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count < 2**30 else f"{count / 2**30:,.2f} GiB"
