"""weaver's data configs as configs of ours; see docs/weaver.md."""

from __future__ import annotations

from hepdata_adapters.common.weaver import Conversion, Note, convert

__all__ = ["Conversion", "Note", "convert"]
