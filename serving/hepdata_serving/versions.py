"""Which versions of a model are served: the rules of export, promotion and roll-back.

Pure functions. A server gets at most two versions of a model: the stable one, which answers
requests that name no version, and the one that is tried out beside it, the canary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hepdata_adapters.common.core.errors import ConfigError

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
