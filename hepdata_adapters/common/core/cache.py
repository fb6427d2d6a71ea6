"""Files that can be made anew: the folder that keeps them between runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.core.writing import cannot_be_written, cause_of


def cache_folder() -> Path:
    """Where specs, counts and checksums are kept; ``HEPDATA_CACHE`` moves it, unless empty."""
    if named := os.environ.get("HEPDATA_CACHE"):
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("hepdata-adapters"))


@dataclass(frozen=True, eq=False)
class Cache:
    """A folder of files that can be made anew: where it cannot be written, the work goes on.

    faults: what could not be kept, a line each; it is said once a process on stderr, too.
    """

    folder: Path
    faults: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Where a file of this name is, or would be."""
        return self.folder / name

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Let ``write`` write the file of this name."""
        try:
            write(self.path(name))
        except FileError as error:
            self.faults.append(str(self.folder))
            why = cannot_be_written(self.folder, cause_of(error))
            say_once(
                f"nothing is kept in the cache, so it is computed again next time: it {why}. "
                f"HEPDATA_CACHE names another folder"
            )


@cache
def say_once(text: str) -> None:
    """Say on standard error what the work goes on without: once a process, however often."""
    print(text, file=sys.stderr)
