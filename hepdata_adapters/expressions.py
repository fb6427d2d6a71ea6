"""Expressions on columns of events, as configs hold them; see docs/expressions.md."""

from __future__ import annotations

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.expressions import Expression, parse

__all__ = ["Expression", "Jagged", "parse"]
