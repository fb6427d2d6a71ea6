"""The split by a branch: the event itself says it."""

from __future__ import annotations

from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.config.split_config import BranchSplit
from hepdata_adapters.common.core.columns import Array
from hepdata_adapters.common.core.errors import BranchError, InvalidValueError
from hepdata_adapters.common.events.identity import is_integer
from hepdata_adapters.common.events.split_strategy import OUTSIDE, SPLITS, Entries, SplitStrategy
from hepdata_adapters.common.files.manifest import Manifest


class ByBranch(SplitStrategy[BranchSplit]):
    """By the value of a branch, which is listed for one of the splits."""

    hint: ClassVar[str] = "give split.values.train values that the branch has"

    def branches(self, manifest: Manifest) -> tuple[str, ...]:
        name = self._branch
        for file in manifest.files:
            if not is_integer(file, name, "iub"):
                raise BranchError(
                    f"a branch to split by is one integer or bool an event, this is "
                    f"{file.branch(name).describe()}",
                    file=file.url, tree=file.tree, branch=name,
                )  # fmt: skip
        return (name,)

    def codes(self, branches: tuple[str, ...], entries: Entries) -> NDArray[np.int64]:
        """Raises InvalidValueError for a value that is listed nowhere."""
        column = cast(Array, entries.columns[self._branch])
        codes = self._listed(column)
        unlisted = np.flatnonzero(codes == OUTSIDE)
        if len(unlisted):
            file, entry = entries.file, entries.start + int(unlisted[0])
            raise InvalidValueError(
                f"the value {int(column[unlisted[0]])} is listed for no split; "
                f"add it to split.values of one of {', '.join(SPLITS)}",
                file=file.url, tree=file.tree, branch=self._branch, entries=(entry, entry + 1),
            )  # fmt: skip
        return codes

    def codes_if_known(
        self, branches: tuple[str, ...], entries: Entries, *, trained: bool
    ) -> NDArray[np.int64]:
        return self._listed(cast(Array, entries.columns[self._branch]))

    def description(self, branches: tuple[str, ...]) -> str:
        return f"the value of {self._branch}"

    @property
    def _branch(self) -> str:
        return cast(str, self.split.branch)

    def _listed(self, column: Array) -> NDArray[np.int64]:
        codes = np.full(len(column), OUTSIDE, np.int64)
        for name, values in self.split.values.items():
            for value in values:
                codes[column == value] = SPLITS.index(name)
        return codes
