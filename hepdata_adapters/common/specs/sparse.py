"""Models that grew new fields and still write and read the files of before."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Sparse(BaseModel):
    """A model whose ``optional`` fields are written only where they differ from their default.

    Files that were written before such a field existed so keep their bytes and their hash.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    optional: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dump(self).items()
            if name not in self.optional or getattr(self, name) != fields[name].default
        }
