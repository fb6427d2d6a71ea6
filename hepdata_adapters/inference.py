"""Raw events outside a training: read from files, or as clients of a server send them."""

from __future__ import annotations

from hepdata_adapters.common.inference.input_files import RawEvents, raw_events, scan_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns

__all__ = ["RawEvents", "columns_from_events", "events_from_columns", "raw_events", "scan_inputs"]
