"""Folders that several test files read and that are slow to make."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name`` of this session, which ``make`` fills when it is first asked for."""
    folder = factory.getbasetemp() / name
    if not folder.exists():
        folder.mkdir()
        try:
            make(folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
    return folder
