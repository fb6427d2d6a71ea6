"""Trainings with the framework that their config names, which is imported only then."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.runs.run_folder import Run, framework_of

__all__ = ["Run", "fit", "load_run", "resume"]


def fit(config: RunConfig, folder: Path, *, overwrite: bool) -> dict[str, Any]:
    """Train with the framework of the config; returns the metrics."""
    with without_greetings():
        train = import_module(f"hepdata_adapters.{config.framework}.training.train")
    metrics: dict[str, Any] = train.fit(config, folder, overwrite=overwrite)
    return metrics


def resume(folder: Path, *, user_code: bool = True) -> dict[str, Any]:
    """Go on with a training that was broken off; returns the metrics."""
    framework = framework_of(folder, user_code=user_code)
    with without_greetings():
        train = import_module(f"hepdata_adapters.{framework}.training.train")
    metrics: dict[str, Any] = train.resume(folder)
    return metrics


def load_run(folder: str | Path, *, user_code: bool = True) -> Run[Any]:
    """A run with the framework that trained it. user_code: whether it may name code to run."""
    framework = framework_of(folder, user_code=user_code)
    with without_greetings():
        room = import_module(f"hepdata_adapters.{framework}.training.run_folder")
    run: Run[Any] = room.load_run(folder)
    return run


@contextmanager
def without_greetings() -> Iterator[None]:
    """Keep back what TensorFlow's C++ says of itself on stderr when it is imported.

    It obeys TF_CPP_MIN_LOG_LEVEL only later. Everything else that is written is passed on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors are Python's exceptions too
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        real = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            kept.seek(0)
            for line in kept:
                if not line.startswith((b"I0000 ", b"WARNING: All log messages before absl::")):
                    os.write(real, line)
            os.close(real)
