"""The script that is running, as the worker processes of `multiprocessing` see it.

Unless they are forked, each of them runs the script again, under another ``__name__``, so that it
knows the script's functions and classes. A script without a guard then starts workers of its own,
which Python forbids in the worker's output, far from the error in the parent; one on standard
input cannot be run again at all.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.context import get_spawning_popen
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError

_MAIN = "__main__"
_GUARDS = {"__name__", "parent_process", "current_process"}


@contextmanager
def not_run_again(objects: Iterable[object]) -> Iterator[None]:
    """Let processes that are started here leave the script alone, if they need nothing of it.

    objects: what they are given. Where one is of the script, nothing changes.
    """
    main = sys.modules[_MAIN]
    needed = any(_home(value) == _MAIN for value in objects)
    names = () if needed else ("__file__", "__spec__")
    hidden = {name: vars(main)[name] for name in names if name in vars(main)}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def check_script() -> None:
    """Raise ConfigError where a process is being started that cannot run the script again.

    To be called while the process object is pickled; at any other time it does nothing.
    """
    if get_spawning_popen() is None:
        return
    main = sys.modules[_MAIN]
    name = getattr(getattr(main, "__spec__", None), "name", "")
    file = getattr(main, "__file__", None)
    if not file or (name or "").split(".")[-1] == _MAIN or Path(file).stem == "ipython":
        return  # of these nothing is run again
    path = Path(file)
    again = "each worker process runs the script again"
    elsewhere = (
        "or use dataset.loader(num_workers=…), whose workers do not run it as long as they are "
        "given nothing that it defines"
    )
    if not path.is_file():
        raise ConfigError(
            f"{again}, and this one is no file ({path.name}): save it as one, with all that it "
            f'does under `if __name__ == "__main__":`, {elsewhere}, or num_workers=0'
        )
    if not _guarded(path):
        raise ConfigError(
            f"{again}, and {path} has no guard: put all that it does under "
            f'`if __name__ == "__main__":`, {elsewhere}'
        )


def _home(value: object) -> str | None:
    if isinstance(value, functools.partial):
        return _home(value.func)
    of_type: str = type(value).__module__
    return _MAIN if of_type == _MAIN else getattr(value, "__module__", None)


def _guarded(path: Path) -> bool:
    """Whether a script asks, outside of functions, who is running it; what is no Python does."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    tests = [statement.test for statement in tree.body if isinstance(statement, ast.If)]
    nodes = [node for test in tests for node in ast.walk(test)]
    names = {getattr(node, "id", getattr(node, "attr", None)) for node in nodes}
    return bool(names & _GUARDS)
