"""The report: one HTML page of what the data are and what the transform makes of them."""

from hepdata_adapters.common.report.page import report, write_report

__all__ = ["report", "write_report"]
