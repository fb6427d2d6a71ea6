"""Who computes the parts of the specs pass: threads of this process, others, or a Dask cluster.

Only parts go out and only JSON comes back; results are taken in the order of the parts.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from hepdata_adapters.common.core import errors
from hepdata_adapters.common.core.errors import (
    ConfigError,
    HepDataError,
    MissingExtraError,
    WorkerError,
)
from hepdata_adapters.common.core.machine import check_processes
from hepdata_adapters.common.core.parent_process import end_with_parent
from hepdata_adapters.common.specs.part_sums import summary_of
from hepdata_adapters.common.specs.parts import Part, Summary

PARTS_AHEAD = 4  # of each worker: sent out, or done and waiting for an earlier one
SECONDS_TO_CONNECT = 30
MOST_THREADS = 256


@dataclass(frozen=True)
class Workers:
    """Who computes: this process (the default), ``processes`` of this machine, or a cluster.

    dask: address of a Dask scheduler, such as ``tcp://host:8786``. Its workers need this package
    and must reach the files under the same names. threads: of this process, where it computes;
    None for those of ``config.reading``, else one a core. Other processes have one each.
    """

    processes: int = 1
    dask: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ConfigError(f"processes is a whole number from 1, not {self.processes}")
        check_processes("processes", self.processes)
        if self.dask is not None and self.processes > 1:
            raise ConfigError("processes and dask exclude each other")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise ConfigError(f"threads is from 1 to {MOST_THREADS}, not {self.threads}")
        if self.threads is not None and self.remote:
            raise ConfigError("threads are those of one process: leave out processes and dask")

    @property
    def remote(self) -> bool:
        """Whether other processes than this one compute."""
        return self.processes > 1 or self.dask is not None


class _Answer(BaseModel):
    """What a worker sends: a summary, or the error that it met."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: Summary | None = None
    error: str = ""
    text: str = ""


def summaries_of(parts: Iterable[Part], workers: Workers) -> Iterator[tuple[Part, Summary]]:
    """Each part with its summary, in order, computed by other processes.

    Raises the HepDataError that a worker met, and WorkerError where one died.
    """
    with _executor(workers) as (executor, count):
        waiting: deque[tuple[Part, Future[str]]] = deque()
        try:
            for part in parts:
                waiting.append((part, executor.submit(answer, part)))
                if len(waiting) >= count * PARTS_AHEAD:
                    yield _taken(waiting)
            while waiting:
                yield _taken(waiting)
        finally:  # also where the consumer stops early
            for _, future in waiting:
                future.cancel()


def answer(part: Part) -> str:
    """What a worker does with a part; its errors travel as text, as JSON like the rest."""
    try:
        return _Answer(summary=summary_of(part)).model_dump_json()
    except HepDataError as error:
        return _Answer(error=type(error).__name__, text=str(error)).model_dump_json()


def _taken(waiting: deque[tuple[Part, Future[str]]]) -> tuple[Part, Summary]:
    part, future = waiting[0]
    try:
        found = _Answer.model_validate_json(future.result())
    except BrokenExecutor:
        # also those that were to come: they would be asked for from a broken pool
        urls = list(dict.fromkeys(p.file.url for p, f in waiting if not f.done() or f.exception()))
        raise _dead(f"a worker process died while reading {' or '.join(urls[:3])}") from None
    except HepDataError:
        raise
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # Dask's, which need not be installed here
            place = f"entries of {part.file.url}"
            raise WorkerError(
                f"a worker failed with {type(error).__name__} on {place}: {error}"
            ) from error
        raise _dead(f"Dask workers died while reading {part.file.url}") from None
    waiting.popleft()
    if found.summary is None:
        kind = getattr(errors, found.error, None)
        if not (isinstance(kind, type) and issubclass(kind, HepDataError)):
            kind = WorkerError
        raise kind.__new__(kind, found.text)  # without its __init__, which wants the parts
    return part, found.summary


def _dead(what: str) -> WorkerError:
    return WorkerError(
        f"{what}. Where the memory ran out, use fewer processes; in a script, the call must stand "
        f'below: if __name__ == "__main__":'
    )


@contextmanager
def _executor(workers: Workers) -> Iterator[tuple[Executor, int]]:
    """An executor and its number of workers."""
    if workers.dask is not None:
        with _client(workers.dask) as client:
            threads = sum(client.nthreads().values())
            if not threads:
                raise WorkerError(f"the Dask cluster at {workers.dask} has no workers")
            with client.get_executor() as executor:
                yield executor, threads
        return
    # not fork: clients of remote files have threads, which a fork does not copy
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers.processes, mp_context=context, initializer=end_with_parent)
    try:
        yield pool, workers.processes
    finally:
        pool.shutdown(cancel_futures=True)


def _client(address: str) -> Any:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "distributed", "dask") from None
    try:
        return Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkerError(f"no Dask scheduler answers at {address}: {error}") from None
