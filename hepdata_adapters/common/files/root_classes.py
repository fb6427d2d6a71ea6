"""uproot's models of ROOT's own classes, kept as uproot has them.

uproot makes models from what a file says of its classes (its streamers), and keeps them for all
files of the process, also in the place of its own ones. Those of a damaged file must not read the
next: a good file would be called corrupt, or be read wrongly.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_FROM_A_FILE = "uproot.dynamic"


def restore_classes(*, forget: bool) -> None:
    """Put uproot's own models back wherever a file has brought others.

    forget: whether models that files have brought for anything else are dropped as well, as after
    damage; the next file that needs them brings its own.
    """
    import uproot

    for dispatcher, own in own_models().items():
        known = dispatcher.known_versions
        if forget:
            dispatcher.known_versions = dict(own)
        elif any(known.get(version) is not model for version, model in own.items()):
            dispatcher.known_versions = known | own
    if forget:
        for name, found in list(uproot.classes.items()):
            if found.__module__ == _FROM_A_FILE:
                uproot.classes.pop(name, None)


@cache
def own_models() -> dict[Any, dict[int, Any]]:
    """The models that came with uproot: of each class, by version. To be asked before any file."""
    import uproot

    return {
        found: {
            version: model
            for version, model in found.known_versions.items()
            if model.__module__ != _FROM_A_FILE
        }
        for found in uproot.classes.values()
        if hasattr(found, "known_versions") and found.__module__ != _FROM_A_FILE
    }
