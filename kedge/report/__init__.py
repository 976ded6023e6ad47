"""Pages for people: self-contained HTML without scripts, everything escaped, readable light and dark."""

from kedge.report.charts import histogram_pair, line_chart, scatter_chart
from kedge.report.page import facts, page, section, table

__all__ = ["facts", "histogram_pair", "line_chart", "page", "scatter_chart", "section", "table"]
