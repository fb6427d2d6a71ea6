"""The room of a framework, imported when it is needed and not before."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hepdata_adapters.common.config import RunConfig
    from hepdata_adapters.common.run import Run


def fit(config: RunConfig, folder: Path, *, overwrite: bool) -> dict[str, Any]:
    """Train with the framework of the config; returns the metrics."""
    train = import_module(f"hepdata_adapters.{config.framework}.train")
    metrics: dict[str, Any] = train.fit(config, folder, overwrite=overwrite)
    return metrics


def load_run(folder: str | Path) -> Run[Any]:
    """A run with the framework that trained it."""
    from hepdata_adapters.common.run import framework_of

    room = import_module(f"hepdata_adapters.{framework_of(folder)}.run")
    run: Run[Any] = room.load_run(folder)
    return run
