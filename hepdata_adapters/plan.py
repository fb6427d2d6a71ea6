"""The order of all events of an epoch, as a pure function; see docs/plan.md."""

from __future__ import annotations

from hepdata_adapters.common.plan.plan import Plan, PlanFile
from hepdata_adapters.common.plan.shard import Shard
from hepdata_adapters.common.plan.shuffle_quality import UnitReads, unit_reads

__all__ = ["Plan", "PlanFile", "Shard", "UnitReads", "unit_reads"]
