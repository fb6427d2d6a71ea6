"""The statistics of the training events of one class."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from hepdata_adapters.common.core.errors import DataError, SpecsError
from hepdata_adapters.common.specs.statistics import BranchStatistics


class ClassStatistics(BaseModel):
    """The training events of one class: their number, and the statistics of their branches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: int = Field(default=0, ge=0)
    branches: dict[str, BranchStatistics] = {}

    def merge(self, other: ClassStatistics, file: str | None = None) -> ClassStatistics:
        """Those of both sets of events together, branches of only one of them included.

        Raises SpecsError where a branch is not the same in both, DataError where its values are
        too large together; ``file`` is then named.
        """
        branches = dict(self.branches)
        for name, statistics in other.branches.items():
            try:
                known = branches.get(name)
                branches[name] = statistics if known is None else known.merge(statistics)
            except ValueError as error:
                raise SpecsError(f"branch {name!r}: {error}") from None
            except OverflowError as error:
                raise DataError(str(error), file=file, branch=name) from None
        return ClassStatistics(events=self.events + other.events, branches=branches)
