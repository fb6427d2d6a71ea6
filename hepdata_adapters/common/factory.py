"""The user's own model: a function named in the config, for any framework."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from hepdata_adapters.common.errors import ConfigError, nearest

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


def load_factory(name: str, key: str = "model.factory") -> Callable[..., object]:
    """The function behind ``package.module:function`` or ``file.py:function``.

    key: of the config, for messages. This runs the user's own code; names from untrusted
    configs must not come here.
    """
    home, colon, function = name.rpartition(":")
    if not colon or not home or not function.isidentifier():
        raise ConfigError(f"{key} is module:function or file.py:function, not {name!r}")
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
    return factory


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
