"""Back again: from the arrays of a batch, or of a model, to events in raw units, and to a file."""

from __future__ import annotations

from hepdata_adapters.common.inference.decode import inverse, to_awkward, write_root

__all__ = ["inverse", "to_awkward", "write_root"]
