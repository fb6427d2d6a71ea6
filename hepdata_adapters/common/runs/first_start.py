"""What the first start ever costs: kernels compiled, where later starts find them on disk.

Measured in new processes, the first of which finds an empty folder for kernels. No framework is
imported there: what its import takes comes on top.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from hepdata_adapters.common.core.errors import HepDataError

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from hepdata_adapters.common.runs.first_start import tell; tell(*sys.argv[2:])"
)


@dataclass(frozen=True)
class Start:
    """Seconds of a new process, each from the moment before.

    Until it has imported this package, until it has files and specs, until the first batch.
    """

    imports: float
    files: float
    batch: float

    @property
    def total(self) -> float:
        return self.imports + self.files + self.batch

    def document(self) -> dict[str, float]:
        """For JSON."""
        parts = asdict(self) | {"total": self.total}
        return {name: round(seconds, 3) for name, seconds in parts.items()}


@dataclass(frozen=True)
class FirstStart:
    """The first start ever, and a later one, on the same cache of specs."""

    first: Start
    later: Start

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"first": self.first.document(), "later": self.later.document()}


def first_start(config: Path, overrides: Sequence[str], *, user_code: bool) -> FirstStart:
    """Two processes that read the first batch of a config. Raises HepDataError where one fails."""
    with tempfile.TemporaryDirectory() as kernels:
        environment = {**os.environ, "NUMBA_CACHE_DIR": kernels}
        given = [str(config), json.dumps(list(overrides)), str(int(user_code))]
        first, later = (_start(environment, given) for _ in range(2))
        return FirstStart(first, later)


def _start(environment: dict[str, str], given: list[str]) -> Start:
    paths = json.dumps([path for path in sys.path if isinstance(path, str)])
    done = subprocess.run(  # noqa: S603 (this interpreter, with our own program)
        [sys.executable, "-c", _PROGRAM, paths, str(time.time()), *given],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise HepDataError(f"the process of --first-start failed: {said[-1] if said else '?'}")
    return Start(**json.loads(done.stdout.splitlines()[-1]))


def tell(begun: str, config: str, overrides: str, user_code: str) -> None:
    """Read the first batch, and print the seconds. begun: when the process was asked for."""
    from hepdata_adapters.common.config.config_file import load_config
    from hepdata_adapters.common.stream.dataset import Dataset
    from hepdata_adapters.common.stream.epoch import EpochOptions
    from hepdata_adapters.common.stream.event_stream import EventStream

    moments = [float(begun), time.time()]
    parsed = load_config(config, json.loads(overrides), user_code=bool(int(user_code)))
    prepared = Dataset.prepare(parsed)
    moments.append(time.time())
    options = EpochOptions(parsed.training.batch_size, shuffle=True, seed=0)
    with EventStream(prepared, "train") as stream:
        for _ in options.epoch().batches(stream, None):
            break
    moments.append(time.time())
    names = ("imports", "files", "batch")
    spans = (end - start for start, end in pairwise(moments))
    print(json.dumps(dict(zip(names, spans, strict=True))))
