from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kedge.training.windows import GAP, GAP_AFTER, holdout_rows, last_known, windows
from tests.training import rows

POLICY = rows.policy(train={"holdout_share": 0.25})


def test_the_holdout_is_as_large_as_the_power_of_the_gates_needs() -> None:
    """z at 0.95 and 0.9 are 1.6449 and 1.2816: (2.9264 * 0.31623 / 0.01)² = 8,563.8."""
    assert holdout_rows(1_000_000, POLICY) == 8564
    stricter = rows.policy(gates={"alpha": 0.01}, train={"holdout_share": 0.25})
    assert holdout_rows(1_000_000, stricter) == math.ceil((2.32635 + 1.28155) ** 2 * 0.1 / 0.01**2)


@pytest.mark.parametrize(
    ("rows_there_are", "since_change", "since_champion", "held_out"),
    [
        (2000, None, None, 500),  # a quarter
        (40_000, 800, None, 400),  # half of the rows since the change
        (40_000, 3000, None, 514),  # enough to find five in a hundred: the rest is new, and to be learned from
        (40_000, 300, None, 200),  # gates.min_rows, below which nothing is judged
        (40_000, 0, None, 200),
        (600, 300, None, 150),  # never more than a quarter
        (40_000, None, 700, 700),  # none that the champion was trained on
        (40_000, 1000, 700, 500),
        (40_000, None, 10, 200),
        (3, None, None, 1),
        (2, None, None, 1),
    ],
)
def test_the_holdout_leaves_rows_to_learn_from(rows_there_are, since_change, since_champion, held_out) -> None:
    assert holdout_rows(rows_there_are, POLICY, since_change=since_change, since_champion=since_champion) == held_out


def test_the_policy_bounds_the_share_and_the_gates_its_least() -> None:
    asked = rows.policy(train={"holdout_share": 0.1}, gates={"min_rows": 20})
    assert holdout_rows(2000, asked) == 200
    assert holdout_rows(2000, asked, since_change=60) == 30
    assert holdout_rows(2000, asked, since_change=10) == 20


def test_windows_double_up_to_half_of_the_rows() -> None:
    assert [(window.name, window.start(4000)) for window in windows(4000)] == [
        ("newest 500", 3500),
        ("newest 1000", 3000),
        ("newest 2000", 2000),
        ("all", 0),
    ]
    assert [window.name for window in windows(999)] == ["all"]


def test_a_change_has_a_window_from_fifty_rows_on() -> None:
    assert [window.name for window in windows(900, 850)] == ["since change", "all"]
    assert [window.name for window in windows(900, 851)] == ["all"]
    assert [window.name for window in windows(900, 0)] == ["all"]  # since the first row: all


def test_a_fit_that_ends_later_keeps_the_length_of_a_window_and_the_start_of_a_change() -> None:
    change, newest, _all = windows(1000, 400)
    assert (change.start(1200), newest.start(1200)) == (400, 700)


@given(st.integers(1, 100_000), st.integers(-10, 100_000))
def test_every_window_holds_rows_and_all_is_last(end: int, change: int) -> None:
    starts = [window.start(end) for window in windows(end, change)]
    assert all(0 <= start < end for start in starts)
    assert starts[-1] == 0


@given(st.integers(2, 300), st.integers(0, 400), st.none() | st.integers(0, 299), st.data())
def test_a_judged_fit_reads_what_was_due_and_most_of_what_is_new(rows_there_are, delay, change, data) -> None:
    times = np.sort(data.draw(arrays(np.int64, rows_there_are, elements=st.integers(0, 500))))
    start = data.draw(st.integers(1, rows_there_are - 1))
    end = last_known(start, times, delay, change)
    changed = change is not None and 0 < change < start
    spared = int(GAP_AFTER * (start - change) if changed else GAP * start)
    assert start - spared <= end <= start
    late = times[end - 1] + delay > times[start]
    assert not late or end == start - spared or delay == 0
