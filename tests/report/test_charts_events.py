"""Times and events of a chart: labelled where they fit, in lanes where they do not."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from kedge import report
from kedge.report.charts import MAX_LABELLED


def chart(events):
    return str(report.line_chart({"loss": [(0, 1.0), (100, 2.0)]}, events=events))


def curve_heights(drawn):
    path = re.search(r'class="curve"[^>]* d="([^"]+)"', drawn)[1]
    return [float(point.split(",")[1]) for point in re.split("[ML]", path)[1:]]


def test_a_few_events_are_lines_with_their_labels():
    drawn = chart([(k, f"event {k}") for k in range(MAX_LABELLED)])
    assert drawn.count('class="event"') == MAX_LABELLED
    assert 'class="tick"' not in drawn


def test_labels_of_events_stand_above_the_curves():
    drawn = chart([(99, "promoted"), (100, "rolled back")])
    top = int(re.search(r'viewBox="0 (-\d+) ', drawn)[1])
    labels = [float(y) for y in re.findall(r' y="([-.\d]+)" text-anchor="end">(?:promoted|rolled)', drawn)]
    assert len(labels) == 2
    assert all(top < y < min(curve_heights(drawn)) for y in labels)


@pytest.mark.parametrize("hours", [0.2, 1, 5, 7, 26, 40, 80, 200, 2000])
def test_times_do_not_run_into_each_other(hours):
    start = datetime(2026, 3, 2, 1, 7, tzinfo=UTC)
    drawn = str(report.line_chart({"loss": [(start, 1.0), (start + timedelta(hours=hours), 2.0)]}))
    places = [float(x) for x in re.findall(r'<text x="([.\d]+)" y="250" text-anchor="middle">', drawn)]
    assert len(places) > 1
    assert all(after - before > 80 for before, after in pairwise(places))  # 12 letters of 6.5 pixels


def test_a_number_below_a_chart_stands_at_its_place():
    drawn = str(report.line_chart({"roc": [(0.0, 0.0), (1.0, 1.0)]}))
    end = re.search(r' d="M.*L([.\d]+),', drawn)[1]
    assert f'<text x="{end}" y="250" text-anchor="middle">1</text>' in drawn


def test_large_numbers_beside_a_chart_are_written_out():
    drawn = str(report.line_chart({"price": [(0.0, 0.0), (1.0, 950_000.0)]}))
    assert ">750,000<" in drawn
    assert ">1,000,000<" in drawn


def test_many_events_are_ticks_in_one_lane_each_kind_and_each_is_there():
    drawn = chart([(k, "quarantine" if k % 5 else "promoted") for k in range(100)])
    assert drawn.count('class="tick"') == 100
    assert drawn.count('class="lane"') == 2
    assert 'class="event"' not in drawn
    assert (drawn.count("<title>quarantine"), drawn.count("<title>promoted")) == (80, 20)


def test_lanes_escape_what_they_name():
    assert "<b>" not in chart([(k, "<b>") for k in range(50)])


def test_a_single_time_is_drawn_within_its_day():
    drawn = report.line_chart({"loss": [(datetime(2026, 3, 2, 12, tzinfo=UTC), 0.3)]}, y_label="loss")
    hours = re.findall(r">(\d\d \w+ \d\d:\d\d)<", str(drawn))
    assert hours[0] == "02 Mar 00:00"
    assert hours[-1] == "03 Mar 00:00"
