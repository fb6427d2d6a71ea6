"""Branches that cannot be read: all of them in one error, not one a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hepdata_adapters.common.config.plain_yaml import write_yaml
from hepdata_adapters.common.core.errors import FileError
from hepdata_adapters.common.files.open import is_network, reading
from hepdata_adapters.common.files.schema import Branch

SHOWN = 5


def of_file(error: FileError) -> bool:
    """Whether it was the file that could not be read, rather than the server or the process."""
    return isinstance(error.__cause__, Exception) and not is_network(error.__cause__)


def read_each(
    read: Callable[[Sequence[Branch]], Any], branches: Sequence[Branch], place: dict[str, Any]
) -> None:
    """Read the branches one by one, and raise FileError for all that cannot be read.

    For after they could not be read together: one branch then costs only itself.
    """
    errors: dict[str, FileError] = {}
    for branch in branches:
        try:
            with reading(**place, branch=branch.name):
                read([branch])
        except FileError as error:
            if not of_file(error) or isinstance(error.__cause__, MemoryError):
                raise  # what would be asked of the others would fail alike
            errors[branch.name] = error
    if not errors:
        return
    first = next(iter(errors.values()))
    line = write_yaml({"exclude": list(errors)}, flow=True).strip("{}")
    advice = f"take it out of the features (of all that there are: {line})"
    if len(errors) == 1:
        raise FileError(
            f"{first.what}; {advice}", **place, branch=next(iter(errors))
        ) from first.__cause__
    shown = "; ".join(f"{name}: {error.what}" for name, error in list(errors.items())[:SHOWN])
    more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    raise FileError(
        f"{len(errors)} of {len(branches)} branches cannot be read ({shown}{more}); {advice}",
        **place,
    ) from first.__cause__
