"""The report: one HTML page of what the data are and what the transform makes of them.

In: a dataset. Out: one HTML file with its pictures, the same bytes for the same data. Never: text
of a config or a file that is not escaped, anything loaded from elsewhere.
"""

from hepdata_adapters.common.report.page import report, write_report

__all__ = ["report", "write_report"]
