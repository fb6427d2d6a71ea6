"""For the tests of faults of input: small files, a pass over them, messages, any values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from hypothesis import strategies as st

from hepdata_adapters.torch import RootIterableDataset


def write(
    path: Path, size: int = 60, *, tree: str = "Events", extra_trees: int = 0, **columns: Any
) -> Path:
    """A file with float32 ``MET`` and jagged ``Jet_pt``, plus or replaced by ``columns``.

    A column given as a type only (a string) is written as a counter of that type; None
    leaves it out.
    """
    lengths = np.arange(size) % 4
    arrays: dict[str, Any] = {
        "MET": np.linspace(0, 100, size, dtype=np.float32),
        "Jet_pt": ak.unflatten(np.arange(lengths.sum(), dtype=np.float32), lengths),
    } | columns
    filled = {
        name: np.arange(size).astype(values) if isinstance(values, str) else values
        for name, values in arrays.items()
        if values is not None
    }
    types = {
        name: "var * float32"
        if isinstance(values, ak.Array)
        else np.dtype((values.dtype, values.shape[1:]))
        for name, values in filled.items()
    }
    with uproot.recreate(path) as file:
        for name in (tree, *(f"{tree}{number}" for number in range(extra_trees))):
            file.mktree(name, types)
            if size:
                file[name].extend(filled)
    return path


def stream(samples: Any, **options: Any) -> RootIterableDataset:
    """A dataset read to its end."""
    dataset = RootIterableDataset(samples, batch_size=16, progress=False, **options)
    for _ in dataset:
        pass
    return dataset


def says(*texts: object) -> str:
    """A pattern for a message that holds all these texts, in any order, in one line."""
    return "^" + "".join(f"(?=.*{re.escape(str(text))})" for text in texts) + r".*\Z"


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
