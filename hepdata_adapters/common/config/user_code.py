"""The code that a config names: the user's own network, and functions that scale features.

Whoever may write the config may run anything with it: configs and run folders of strangers are
to be looked at, or loaded with this refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.errors import ConfigError


def code_places(config: DatasetConfig) -> list[str]:
    """Where the config names code, a phrase each; functions that are registered need none.

    >>> code_places(DatasetConfig(samples=[{"files": "a.root"}], features=[
    ...     {"branch": "MET", "scaling": {"function": "own.py:root"}}]))
    ['features.0.scaling.function: own.py:root']
    """
    return list(_found(config.model_dump(mode="json"), ""))


def refuse_code(config: DatasetConfig, source: str) -> None:
    """Raise ConfigError with every place where the config names code, unless there is none."""
    if places := code_places(config):
        raise ConfigError(
            f"{source} names code of its own, which --no-user-code refuses to run: "
            f"{'; '.join(places)}"
        )


def _found(item: Any, place: str) -> Iterator[str]:
    inner = enumerate(item) if isinstance(item, list) else ()
    for key, value in item.items() if isinstance(item, dict) else inner:
        here = f"{place}.{key}" if place else str(key)
        holder = place.rpartition(".")[2]
        if (holder, key) in (("model", "factory"), ("scaling", "function")):
            if isinstance(value, str) and ":" in value:
                yield f"{here}: {value}"
        else:
            yield from _found(value, here)
