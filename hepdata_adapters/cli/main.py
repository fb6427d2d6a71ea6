"""``hepdata-adapters``: the commands, and how errors leave the program."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import typer
from typer.exceptions import Exit, TyperException

from hepdata_adapters.cli.bench import bench
from hepdata_adapters.cli.convert import convert
from hepdata_adapters.cli.evaluate import evaluate
from hepdata_adapters.cli.export import export
from hepdata_adapters.cli.fit import fit
from hepdata_adapters.cli.inspect import inspect
from hepdata_adapters.cli.materialize import materialize
from hepdata_adapters.cli.predict import predict
from hepdata_adapters.cli.report import report
from hepdata_adapters.cli.rollout import promote, rollback, rollout
from hepdata_adapters.cli.schema import schema
from hepdata_adapters.cli.serve import serve
from hepdata_adapters.cli.specs import specs_app
from hepdata_adapters.cli.validate import validate
from hepdata_adapters.cli.verify import verify
from hepdata_adapters.common.core.errors import (
    ConfigError,
    HepDataError,
    TrainingInterruptedError,
    missing_extra,
)

PROGRAM = "hepdata-adapters"
USAGE, FAULT, TERMINATED = 2, 1, 128 + signal.SIGTERM
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # no error of reading is of these
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "OOM when")

app = typer.Typer(
    name=PROGRAM,
    help="Stream ROOT files into machine learning: inspect, train, export and serve.",
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
) -> None:
    """Stream ROOT files into machine learning: inspect, train, export and serve."""


COMMANDS = (
    inspect, validate, verify, materialize, bench, fit, evaluate, export, promote, rollback,
    rollout, serve, predict, convert, report, schema,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(specs_app, name="specs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0 success, 1 a fault of the data or of the environment, 2 bad usage or a bad config,
    130 interrupted, 143 terminated. Errors are one line on stderr; ``--debug`` anywhere shows
    tracebacks.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if not given:  # the help, though nothing was done
        main(["--help"])
        return USAGE
    try:
        code = typer.main.get_command(app).main(given, PROGRAM, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Exit as error:
        return int(error.exit_code)
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        known = [info.callback.__name__ for info in app.registered_commands if info.callback]
        known += [str(group.name) for group in app.registered_groups]
        place = " ".join([PROGRAM, *(name for name in given[:1] if name in known)])
        return _fail(f"{message} (see {place} --help)", USAGE, debug)
    except TrainingInterruptedError as error:
        return _fail(str(error), 128 + error.number)
    except HepDataError as error:
        return _fail(_reason(error), USAGE if isinstance(error, ConfigError) else FAULT, debug)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as in `… | head`
        return FAULT
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Terminated:
        return _fail("terminated by SIGTERM", TERMINATED)
    except Exception as error:
        if (advice := _of_the_machine(error)) is not None:
            return _fail(advice, FAULT, debug)
        if isinstance(error, ModuleNotFoundError) and (missing := missing_extra(error)):
            return _fail(str(missing), FAULT, debug)
        name = type(error).__name__
        return _fail(f"unexpected {name}: {_reason(error)} (--debug shows where)", FAULT, debug)


def _of_the_machine(error: Exception) -> str | None:
    """What is to be done where the memory or a disk is full, or a folder is not to be written.

    Frameworks have errors of their own for it.
    """
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return (
            f"the memory ran out ({text or type(error).__name__}): lower sampling.chunk_size, "
            f"training.batch_size, training.workers, the length of jagged features or model.hidden"
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        from hepdata_adapters.common.core.writing import cannot_be_written

        return str(cannot_be_written(error.filename or "not named", error))
    return None


def _reason(error: Exception) -> str:
    """The message; that of an error in a DataLoader worker without the worker's traceback."""
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return text


def _fail(message: str, code: int, debug: bool = False) -> int:
    """One line on stderr, after the traceback of the present exception if that is wanted."""
    if debug:
        traceback.print_exc()
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code


class Terminated(SystemExit):
    """SIGTERM: all is left in order, as at any other exit, where Python alone would just end."""


def run() -> None:
    """Entry point of the installed command."""
    # read where torch is imported: its idle threads then sleep, and do not spin on cores that
    # other programs need; beside these, a step of two threads would take ten times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(TERMINATED)


if __name__ == "__main__":
    run()
