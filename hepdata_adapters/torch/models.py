"""Networks: the paper's, and whatever the user's factory returns."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from hepdata_adapters.common.config import ModelConfig
from hepdata_adapters.common.errors import ConfigError, nearest


class FeedForward(nn.Sequential):
    """The paper's network (sect. 4.2): 128 and 64 neurons, dropout 0.5 between layers.

    ``(n, d)`` float32 to logits ``(n, num_outputs)``.

    >>> import torch
    >>> FeedForward(10)(torch.zeros(3, 10)).shape
    torch.Size([3, 1])
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int = 1,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.5,
    ) -> None:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(num_features, size), nn.ReLU(), nn.Dropout(dropout)]
            num_features = size
        super().__init__(*layers, nn.Linear(num_features, num_outputs))


def build_model(config: ModelConfig, num_features: int, num_outputs: int) -> nn.Module:
    """The network of a config: the user's factory if there is one, else the paper's.

    The factory is called with ``num_features``, and with ``num_outputs`` if it takes that.
    Raises ConfigError if it cannot be found, fails, or returns something else than a module.
    """
    if config.factory is None:
        return FeedForward(num_features, num_outputs, config.hidden, config.dropout)
    factory = load_factory(config.factory)
    try:
        takes_outputs = "num_outputs" in inspect.signature(factory).parameters
        extra = {"num_outputs": num_outputs} if takes_outputs else {}
        model = factory(num_features, **extra)
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"model factory {config.factory!r} failed: {error!r}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model factory {config.factory!r} returned {type(model).__name__}, "
            f"not a torch.nn.Module"
        )
    return model


def load_factory(name: str) -> Callable[..., object]:
    """The function behind ``package.module:function`` or ``file.py:function``.

    This runs the user's own code; names from untrusted configs must not come here.
    """
    home, colon, function = name.rpartition(":")
    if not colon or not home or not function.isidentifier():
        raise ConfigError(f"model.factory is module:function or file.py:function, not {name!r}")
    try:
        module = _file_module(Path(home)) if home.endswith(".py") else importlib.import_module(home)
    except ConfigError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise ConfigError(f"model factory {name!r} cannot be imported: {error!r}") from error
    if not callable(getattr(module, function, None)):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(f"{home} has no function {function!r}{nearest(function, known)}")
    factory: Callable[..., object] = getattr(module, function)
    return factory


def _file_module(path: Path) -> object:
    if not path.is_file():
        raise ConfigError(f"no model file {str(path)!r}")
    name = f"hepdata_user_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes defined in the file look up their module there
    spec.loader.exec_module(module)
    return module
