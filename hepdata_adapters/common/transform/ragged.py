"""The reference transform: the objects of events one after the other, nothing padded or cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hepdata_adapters.common.core.columns import Column, Columns, Jagged
from hepdata_adapters.common.transform.object_features import ObjectFeatures
from hepdata_adapters.common.transform.output import Line, Output, line_counts


class RaggedTransform(ObjectFeatures):
    """Jagged columns to "", a `Jagged` whose content is ``(m, f)`` of ``dtype``.

    >>> from hepdata_adapters.common.transform.scaling import ValueScaling
    >>> transform = RaggedTransform(features=(ValueScaling(
    ...     branch="pt", dtype="float32", factor=0.5),))
    >>> out = transform({"pt": Jagged.from_lists([[30.0], [], [8.0, 6.0]])}).arrays[""]
    >>> out.content.tolist(), out.offsets.tolist()
    ([[15.0], [4.0], [3.0]], [0, 1, 1, 3])
    """

    kind: Literal["ragged"] = "ragged"

    @property
    def counted(self) -> tuple[Line, ...]:
        """The ledger line of each column of counts."""
        return self.value_lines

    def __call__(self, columns: Mapping[str, Column]) -> Output:
        """Transform n events. Raises as `ObjectFeatures.encode`."""
        values, offsets, counts = self.encode(columns)
        found = Jagged(values, offsets)
        return Output({"": found}, line_counts(self.counted, counts, len(found)))

    def inverse(self, values: Jagged) -> Columns:
        """Jagged columns in raw units: float64, or int64 of such a transform.

        values: content ``(m, f)``, also of a model. Raises ConfigError where a scaling has no
        inverse.
        """
        return self.decode(values.content, values.offsets)
