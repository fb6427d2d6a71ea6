"""The configs that bring a running server from the versions that it has to others.

Pure functions. TF Serving updates labels before it loads what a config adds, and refuses a
label on a version that is not loaded yet. Each change is therefore a sequence of configs: load,
move the labels, unload.
"""

from __future__ import annotations

from dataclasses import dataclass

from hepdata_serving.tfserving.configs import ServedModel
from hepdata_serving.versions import Versions


@dataclass(frozen=True)
class Step:
    """One config of a sequence, and what it does."""

    action: str
    model: ServedModel


def sequence(name: str, before: Versions | None, after: Versions) -> list[Step]:
    """The configs that bring a running server from one state (None: not served) to another.

    Every label of a config is on a version that the config before it has loaded.

    >>> for step in sequence("tth", Versions(1, 2), Versions(2)):
    ...     print(step.action, step.model.versions, step.model.labels)
    label (1, 2) {'stable': 2}
    unload (2,) {'stable': 2}
    """
    old = before.served if before else ()
    old_labels = before.labels if before else {}
    both = tuple(sorted({*old, *after.served}))
    steps = [
        Step("load", ServedModel(name, both, old_labels)),
        Step("label", ServedModel(name, both, after.labels)),
        Step("unload", ServedModel(name, after.served, after.labels)),
    ]
    last = ServedModel(name, old, old_labels)
    changes = []
    for step in steps:
        if step.model != last:
            changes.append(step)
            last = step.model
    return changes
