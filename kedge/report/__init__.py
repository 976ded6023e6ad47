"""Pages for people: self-contained HTML without scripts, everything escaped, readable light and dark."""

from kedge.report.charts import histogram, histogram_pair, line_chart, scatter_chart
from kedge.report.page import facts, fragment, page, section, table

__all__ = [
    "facts",
    "fragment",
    "histogram",
    "histogram_pair",
    "line_chart",
    "page",
    "scatter_chart",
    "section",
    "table",
]
