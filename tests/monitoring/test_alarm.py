"""The alarm: a sequential test of a risen error, with values a reader can check by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedge.monitoring.alarm import MAX_SPANS, Alarm, Span, begin_tenure, observe

START = datetime(2026, 3, 1, tzinfo=UTC)


def span(rows: int, wrong: float, hour: int = 0) -> Span:
    return Span(rows=rows, total=float(wrong), square=float(wrong), end=START + timedelta(hours=hour))


def fold(counts: list[int], rows: int = 250, baseline: Span | None = None) -> list[Alarm]:
    alarm, states = Alarm(baseline=baseline or span(500, 90)), []
    for hour, wrong in enumerate(counts, 1):
        alarm = observe(alarm, span(rows, wrong, hour), bound=1.0, min_increase=0.1)
        states.append(alarm)
    return states


def test_evidence_is_the_log_likelihood_ratio_of_two_rates() -> None:
    (state,) = fold([30], rows=100, baseline=span(100, 10))
    both = 100 * (0.3 * math.log(0.3 / 0.2) + 0.7 * math.log(0.7 / 0.8)) + 100 * (
        0.1 * math.log(0.1 / 0.2) + 0.9 * math.log(0.9 / 0.8)
    )
    assert state.evidence == pytest.approx(both)
    assert state.rise == pytest.approx(2.0)


def test_a_clear_rise_opens_it_and_names_its_begin() -> None:
    states = fold([45] * 10 + [90] * 3)
    assert not any(state.open for state in states[:10])
    opened = next(state for state in states if state.open)
    assert opened.since == START + timedelta(hours=10)
    assert opened.level == pytest.approx(90 / 250)


def test_a_rise_below_the_floor_does_not() -> None:
    assert not any(state.open for state in fold([1000] * 5 + [1060] * 20, rows=20_000, baseline=span(100_000, 5000)))


def test_it_stays_open_while_the_level_stays_risen() -> None:
    assert all(state.open for state in fold([45] * 10 + [90] * 40)[14:])


def test_it_ends_when_the_level_is_back() -> None:
    states = fold([45] * 10 + [90] * 10 + [45] * 5)
    assert states[19].open
    assert not states[-1].open


def test_a_promotion_does_not_end_it() -> None:
    state = begin_tenure(fold([45] * 10 + [90] * 5)[-1], span(200, 70))
    assert state.open
    assert observe(state, span(250, 88, 20), bound=1.0, min_increase=0.1).open


def test_a_poor_champion_is_not_its_own_yardstick() -> None:
    state = begin_tenure(fold([45] * 10)[-1], span(500, 200))
    assert state.baseline.total / state.baseline.rows == pytest.approx(0.18)


def test_no_rows_are_no_look() -> None:
    (before,) = fold([45])
    assert observe(before, span(0, 0), bound=1.0, min_increase=0.1) == before


def test_the_state_is_small_and_survives_a_record() -> None:
    state = fold([40 + k % 11 for k in range(500)])[-1]
    assert len(state.spans) <= MAX_SPANS
    assert sum(each.rows for each in state.spans) == 500 * 250
    assert Alarm.from_dict(state.to_dict()) == state


def test_checks_that_scatter_more_than_their_rows_say_count_for_less() -> None:
    wandering = [45 + (20 if k % 2 else -20) for k in range(20)]
    assert fold([*wandering, 70])[-1].evidence < fold([45] * 20 + [70])[-1].evidence / 2


def test_quiet_streams_seldom_alarm() -> None:
    random = np.random.default_rng(17)
    opened = sum(
        any(state.open for state in fold(random.binomial(250, 0.18, 100).tolist(), baseline=span(500, reference)))
        for reference in random.binomial(500, 0.18, 100)
    )
    assert opened <= 5  # 1 % a stream: more than 5 of 100 in one case of 2,000


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(0, 100))
def test_more_errors_are_never_less_evidence(counts: list[int], more: int) -> None:
    *before, last = counts
    worse = min(100, last + more)
    assert fold([*before, worse], rows=100)[-1].evidence >= fold([*before, last], rows=100)[-1].evidence - 1e-9
