"""Data for the tests: small files made with uproot, and the real ones where they are."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import uproot
from hypothesis import settings

from tests.helpers.samples import write_events

# CI tries the same examples each time, `make nightly` 10,000 new ones
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "data"


@pytest.fixture(scope="module", autouse=True)
def _same_files(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files that a test writes have the same UUID each time: who is in which split follows it."""
    names = (f"{request.node.nodeid} {number}" for number in itertools.count())
    with pytest.MonkeyPatch.context() as patch:
        same = {"uuid_function": lambda: uuid.uuid5(uuid.NAMESPACE_URL, next(names))}
        patch.setattr(uproot.create, "defaults", uproot.create.defaults | same)
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals() -> None:
    """Ctrl-C is not ignored, as a shell has it for what it runs in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of fixtures that live longer than a test: never the user's."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEPDATA_CACHE", str(folder / "shared"))
        yield folder


@pytest.fixture(autouse=True)
def _own_cache(_caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEPDATA_CACHE", tempfile.mkdtemp(dir=_caches))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real ROOT files that lies beside a checkout, not in it."""
    if not SHARED.is_dir():
        pytest.skip("the real ROOT files (../shared/data) are not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def three_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of 3000, 10 and 1003 events: those with which MLaaS4HEP lost whole classes."""
    folder = tmp_path_factory.mktemp("three")
    sizes = {"large": 3000, "tiny": 10, "middle": 1003}
    return [
        write_events(folder / f"{name}.root", size, seed=number)
        for number, (name, size) in enumerate(sizes.items())
    ]


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a file with one tree ``Events`` of the given columns."""

    def make(name: str = "events.root", tree: str = "Events", **columns: object) -> Path:
        path = tmp_path / name
        with uproot.recreate(path) as file:
            arrays = {key: np.asarray(value) for key, value in columns.items()}
            file.mktree(tree, {key: values.dtype for key, values in arrays.items()})
            if len(next(iter(arrays.values()))):
                file[tree].extend(arrays)
        return path

    return make
