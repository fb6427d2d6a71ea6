"""Which versions of a model are served: the rules of export, promotion and roll-back.

Pure functions. TF Serving updates labels before it loads what a config adds, and refuses a
label on a version that is not loaded yet. Each change is therefore a sequence of configs: load,
move the labels, unload.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hepdata_adapters.common.errors import ConfigError
from hepdata_serving.tfserving.configs import ServedModel

STABLE = "stable"
CANARY = "canary"


@dataclass(frozen=True)
class Versions:
    """The state of one model.

    At most two versions are served, and three while a sequence is on its way.
    earlier: versions that were stable before and lie on disk, oldest first, all below stable.

    >>> state = Versions(stable=1).exported(2).promoted()
    >>> state
    Versions(stable=2, canary=None, earlier=(1,))
    >>> state.rolled_back().labels
    {'stable': 1}
    """

    stable: int
    canary: int | None = None
    earlier: tuple[int, ...] = ()

    @property
    def labels(self) -> dict[str, int]:
        return {STABLE: self.stable} | ({CANARY: self.canary} if self.canary else {})

    @property
    def served(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.labels.values())))

    def exported(self, version: int) -> Versions:
        """A new version becomes the canary, in place of the one before it."""
        return replace(self, canary=version)

    def promoted(self) -> Versions:
        """The canary becomes stable. Raises ConfigError if there is none."""
        if self.canary is None:
            raise ConfigError(
                f"there is no canary to promote, version {self.stable} is stable: export a new "
                "version first"
            )
        return Versions(self.canary, None, (*self.earlier, self.stable))

    def rolled_back(self) -> Versions:
        """The version that was stable before becomes so again; a canary stays.

        Raises ConfigError if there is none.
        """
        if not self.earlier:
            raise ConfigError(
                f"nothing to roll back to: no version before {self.stable} was ever stable"
            )
        return replace(self, stable=self.earlier[-1], earlier=self.earlier[:-1])


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
