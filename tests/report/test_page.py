"""Pages: escaped, self-contained, valid."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from kedge import report
from kedge.report.charts import _ticks

VOID = {"meta", "path", "circle", "rect"}


class Document(HTMLParser):
    """Checks nesting and collects tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@given(st.text(max_size=40))
def test_hostile_text_never_becomes_markup(hostile):
    hostile = f"<script>{hostile}</script>\"'><img src=x onerror=1>"
    parts = report.section(
        hostile,
        hostile,
        report.table([hostile], [[hostile]]),
        report.facts({hostile: hostile}),
        report.line_chart({hostile: [(0, 1), (1, 2)]}, events=[(0.5, hostile)], y_label=hostile),
        report.scatter_chart([(0, 1), (1, 2)], name=hostile, diagonal=hostile, y_label=hostile),
        report.histogram_pair([hostile, hostile], [1, 2], [2, 1], caption=hostile),
    )
    document = Document(report.page(hostile, parts, hostile, subtitle=hostile))
    names = {tag for tag, _ in document.tags}
    assert "script" not in names
    assert "img" not in names
    assert not any(key.startswith("on") for _, attributes in document.tags for key in attributes)


def test_a_page_loads_nothing_from_elsewhere_and_forbids_scripts():
    text = report.page("Check", report.line_chart({"a": [(0, 1), (1, 2)]}))
    document = Document(text)
    assert not any(key in ("src", "href") for _, attributes in document.tags for key in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in next(a["content"] for _, a in document.tags if a.get("http-equiv"))
    assert "prefers-color-scheme: dark" in text


def test_table_puts_numbers_right_and_says_nothing_for_none():
    made = report.table(["name", "rows"], [["a", 1200], ["b", None]])
    assert '<td class="number">1,200</td>' in made
    assert '<td class="number">–</td>' in made
    assert "<td>a</td>" in made


def test_table_refuses_a_row_of_another_length():
    with pytest.raises(ValueError, match="1 cells, the table 2 columns"):
        report.table(["a", "b"], [[1]])


def test_times_are_shown_in_utc():
    made = report.facts({"end": datetime(2026, 3, 2, 8, tzinfo=UTC).astimezone(tz=None)})
    assert "2026-03-02 08:00 UTC" in made


def test_a_scatter_draws_each_finite_point_and_where_position_and_value_agree():
    made = str(report.scatter_chart([(0, 10), (20, 0), (math.nan, 1), (1, math.inf)], name="a", diagonal="equal"))
    dots, diagonal = (part.split('d="')[1].split('"')[0] for part in made.split("<path")[-2:])
    assert dots == "M66,26h0M704,230h0"  # the plot's upper left and lower right corner
    assert diagonal == "M66,230L385,26"  # from (0, 0) to (10, 10)
    assert "a</span>" in made
    assert "equal</span>" in made


def test_a_scatter_without_a_common_value_has_no_diagonal_and_one_without_points_says_so():
    apart = str(report.scatter_chart([(0, 10), (1, 20)], name="a", diagonal="equal"))
    assert 'class="curve"' not in apart
    assert "Nothing to draw" in report.scatter_chart([(math.nan, 1)], name="a")
    assert 'class="dots"' in report.scatter_chart([(3, 3)], name="a", diagonal="equal")


def test_a_missing_value_breaks_the_curve():
    made = str(report.line_chart({"a": [(0, 1), (1, 2), (2, None), (3, math.nan), (4, 1), (5, 2)]}))
    path = made.split('class="curve"')[1].split('d="')[1].split('"')[0]
    assert path.count("M") == 2
    assert path.count("L") == 2


def test_a_chart_over_time_writes_utc_times_and_its_events():
    start = datetime(2026, 3, 2, tzinfo=UTC)
    points = [(start + timedelta(hours=k), float(k)) for k in range(24)]
    text = Document(report.line_chart({"loss": points}, events=[(start + timedelta(hours=5), "promoted")])).text
    assert "02 Mar 06:00" in text
    assert "promoted" in text


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(0, None)]}])
def test_a_chart_of_nothing_says_so(series):
    assert "Nothing to draw yet" in report.line_chart(series)


def test_a_chart_of_one_point_is_drawn():
    assert "<circle" in report.line_chart({"a": [(3.0, 3.0)]})


def test_a_chart_refuses_times_mixed_with_numbers():
    with pytest.raises(ValueError, match="not both"):
        report.line_chart({"a": [(0, 1)]}, events=[(datetime(2026, 1, 1, tzinfo=UTC), "x")])


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_ticks_cover_the_interval_and_are_few(low, width):
    high = low + width
    if high - low <= abs(low) * 1e-9:
        return
    at = [tick for tick, _ in _ticks(low, high, 4)]
    slack = (high - low) * 1e-3
    assert at[0] <= low + slack
    assert at[-1] >= high - slack
    assert 2 <= len(at) <= 8


def test_histograms_are_compared_as_shares():
    made = report.histogram_pair(["a", "b"], [1, 3], [100, 300])
    assert "a: reference 25.00%, current 25.00%" in made


@pytest.mark.parametrize(("reference", "current"), [([1], [1, 2]), ([-1, 2], [1, 2]), ([math.nan, 1], [1, 2])])
def test_histograms_refuse_bins_that_are_none(reference, current):
    with pytest.raises(ValueError, match="must"):
        report.histogram_pair(["a", "b"], reference, current)


def test_an_empty_window_is_drawn_flat():
    assert "current 0.00%" in report.histogram_pair(["a"], [5], [0])


def test_parts_of_this_room_are_not_escaped_twice():
    assert "&amp;lt;" not in report.page("a", report.section("b", Markup("<p>&lt;</p>")))


def test_a_time_in_a_table_is_never_broken_over_lines():
    drawn = report.page("t", report.table(["time", "why"], [[datetime(2026, 3, 2, tzinfo=UTC), "because"]]))
    assert '<td class="time">2026-03-02 00:00 UTC</td>' in drawn
    assert ".kedge td.time { white-space: nowrap; }" in drawn
