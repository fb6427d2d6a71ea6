"""The user's own model: a function named in the config, for any framework."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from hepdata_adapters.common.core.errors import ConfigError, nearest

ModelShape = int | dict[str, tuple[int | None, ...]]

_FRAMEWORKS = {"torch": "torch", "keras": "tf", "tensorflow": "tf"}


def call_factory(name: str, shape: ModelShape, num_outputs: int) -> object:
    """What ``name`` returns for what the model takes, and for ``num_outputs`` if it takes that.

    shape: the number of columns of ``x``, or the shape of an event in each input by name.

    Raises ConfigError if it cannot be found or fails.
    """
    factory = load_factory(name)
    try:
        takes_outputs = "num_outputs" in inspect.signature(factory).parameters
        extra = {"num_outputs": num_outputs} if takes_outputs else {}
        return factory(shape, **extra)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"model factory {name!r} failed: {error!r}") from error


def only_vector(shape: ModelShape) -> int:
    """The number of columns of ``x``. Raises ConfigError where a model takes more than ``x``."""
    if not isinstance(shape, int):
        raise ConfigError(
            f"the network of the paper takes 'x' alone, and the config has {', '.join(shape)}: "
            f"name your own with model.factory"
        )
    return shape


def wrong_kind(name: str, made: object, wanted: str) -> ConfigError:
    """The error for a factory that returned something else than a ``wanted``."""
    kind = type(made)
    homes = {base.__module__.partition(".")[0] for base in kind.__mro__}
    other = [framework for home, framework in _FRAMEWORKS.items() if home in homes]
    hint = f"; is 'framework: {other[0]}' meant?" if other else ""
    return ConfigError(f"model factory {name!r} returned {kind.__name__}, not a {wanted}{hint}")


def load_factory(
    name: str, key: str = "model.factory", takes: tuple[str, ...] = ("num_features",)
) -> Callable[..., object]:
    """The function or class behind ``package.module:function`` or ``file.py:function``.

    key: of the config, for messages. takes: what it will be called with. It must be written in
    Python, outside of the standard library. The import runs the user's own code; names from
    untrusted configs must not come here.
    """
    home, colon, function = name.rpartition(":")
    if not colon or not home or not function.isidentifier():
        raise ConfigError(f"{key} is module:function or file.py:function, not {name!r}")
    if not home.endswith(".py") and home.partition(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"{key} {name!r} is of Python's own library: name a function of yours")
    try:
        module = _file_module(Path(home)) if home.endswith(".py") else importlib.import_module(home)
    except ConfigError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"{key} {name!r} cannot be imported: {error!r}") from error
    if not callable(getattr(module, function, None)):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"{home} has no function {function!r}{nearest(function, known)}")
    factory: Callable[..., object] = getattr(module, function)
    _check_own(factory, f"{key} {name!r}", takes)
    return factory


def _check_own(made: Callable[..., object], what: str, takes: tuple[str, ...]) -> None:
    """Refuse, before it is called with anything, what cannot be meant."""
    inner = inspect.unwrap(made.func if isinstance(made, functools.partial) else made)
    written = inner if inspect.isfunction(inner) or inspect.isclass(inner) else type(inner)
    if str(written.__module__).partition(".")[0] in sys.stdlib_module_names:
        raise ConfigError(
            f"{what} is a {type(inner).__name__} of Python's own: name a function of yours"
        )
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # of a class written in C
        raise ConfigError(f"{what} does not say what it takes: put a function around it") from None
    outputs = {"num_outputs": 1} if "num_outputs" in signature.parameters else {}
    try:
        signature.bind(*takes, **outputs)
    except TypeError as error:
        raise ConfigError(
            f"{what} takes {signature}, but is called with ({', '.join(takes)}): {error}"
        ) from None


def _file_module(path: Path) -> object:
    if not path.is_file():
        raise ConfigError(f"no file {str(path)!r}")
    name = f"hepdata_user_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes defined in the file look up their module there
    spec.loader.exec_module(module)
    return module
